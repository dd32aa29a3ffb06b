# SPDX-License-Identifier: GPL-3.0-or-later
"""What Guix writes while it builds, in a file instead of hundreds of printed lines."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TextIO

# So many files are kept: builds fail, and are looked into, soon after they ran.
_KEPT = 10


class BuildLog:
    """A file for one command, made when there is something to write."""

    def __init__(self, directory: Path) -> None:
        """Write to a file in DIRECTORY; nothing is made yet."""
        self._directory = directory
        self._file: TextIO | None = None

    @property
    def path(self) -> Path | None:
        """The file; None while there is none."""
        return None if self._file is None else Path(self._file.name)

    def write(self, line: str) -> None:
        """Add LINE.  Raises OSError if that cannot be done."""
        if self._file is None:
            self._file = self._create()
        self._file.write(f"{line}\n")
        self._file.flush()

    def _create(self) -> TextIO:
        self._directory.mkdir(parents=True, exist_ok=True)
        # Their names sort as they were made.
        for old in sorted(self._directory.glob("build-*.log"))[: 1 - _KEPT]:
            old.unlink(missing_ok=True)
        name = f"build-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.log"
        return (self._directory / name).open("a", encoding="utf-8", errors="replace")
