# SPDX-License-Identifier: GPL-3.0-or-later
"""A directory with a configuration that the bench edits as a person would."""

from __future__ import annotations

import os
from pathlib import Path

_CONFIGS = Path(__file__).parent / "configs"
MACHINE = "bench"
MAC = "52:54:00:be:9c:01"


class Workspace:
    """SYSTEM declares an operating-system, MACHINES one or several machines that run it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.system = directory / "system.scm"
        self.machines = directory / "machines.scm"
        self._edition = 0

    def edit(
        self, *, megabytes: int = 0, memory: str = "1G", count: int = 1, booted: bool = True
    ) -> None:
        """Have another edition of the system, which contains that many MEGABYTES of data.

        BOOTED: machines are ready when they have an address; else at the first sign of life.
        """
        self._edition += 1
        self._write("base.scm", self.system, {
            "EDITION": f"edition {self._edition} {os.getpid()}",
            "MEGABYTES": str(megabytes),
        })  # fmt: skip
        self.declare(memory=memory, count=count, booted=booted)

    def declare(self, *, memory: str = "1G", count: int = 1, booted: bool = True) -> None:
        """Declare COUNT machines with MEMORY; the system stays as it is."""
        ready = "(address)" if booted else '(console ".")'
        self._write("machines.scm", self.machines, {
            "MEMORY": memory, "COUNT": str(count), "READY": ready,
        })  # fmt: skip

    @staticmethod
    def _write(name: str, target: Path, values: dict[str, str]) -> None:
        text = (_CONFIGS / name).read_text()
        for word, value in values.items():
            text = text.replace(word, value)
        target.write_text(text)
