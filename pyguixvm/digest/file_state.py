# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a file is as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import msgspec

from pyguixvm.errors import RequestRefusedError


class FileState(msgspec.Struct, frozen=True):
    """How the file PATH was found: WHICH it is, and its STAMP; None if there was none.

    The stamp is another one after each write, whatever the times of the file are set to.
    CHANGED (nanoseconds since the epoch) is when that last happened.
    """

    path: Path
    which: str | None = None
    stamp: str | None = None
    changed: int = 0

    @classmethod
    def of(cls, path: Path) -> Self:
        """Return how the file PATH is now."""
        try:
            status = path.stat()
        except FileNotFoundError:
            return cls(path)
        return cls(
            path,
            f"file {status.st_dev} {status.st_ino}",
            f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}",
            status.st_ctime_ns,
        )

    def require_unchanged(self) -> None:
        """Raise RequestRefusedError if the file is not as it was."""
        if type(self).of(self.path) != self:
            raise RequestRefusedError(
                f"the disk image {self.path} was changed while it was used",
                hint="Run the command again when nobody writes to it.",
            )
