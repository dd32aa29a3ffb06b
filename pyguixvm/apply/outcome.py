# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of machines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from pyguixvm.errors import PyguixvmError, contained

# What is said of a machine; one that was changed is "taken-back" when others failed.
Word: TypeAlias = Literal[
    "unchanged", "deployed", "updated", "restarted", "started", "failed", "taken-back"
]


@dataclass(frozen=True)
class Outcome:
    """How it went with one machine."""

    machine: str
    outcome: Word
    detail: str = ""
    addresses: tuple[str, ...] = ()
    error: PyguixvmError | None = None

    @property
    def status(self) -> int:
        """The exit status that this machine alone would give."""
        return self.error.status if self.error else 0


def failed(machine: str, error: Exception) -> Outcome:
    """Return the outcome of MACHINE, which ERROR, a defect maybe, put an end to."""
    return Outcome(machine, "failed", error=contained(error))
