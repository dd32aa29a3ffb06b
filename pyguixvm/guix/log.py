# SPDX-License-Identifier: GPL-3.0-or-later
"""What Guix says while it builds, and the logs that it names."""

from __future__ import annotations

import bz2
import gzip
import re
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

from pyguixvm.errors import BuildError

_TAIL_LINES = 20
# Colours and the erasing of lines (ECMA-48, control sequences).
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


class Lines:
    """Text that comes in pieces, as lines."""

    def __init__(self, show: Callable[[str], None]) -> None:
        """Have SHOW called with each line that is not empty."""
        self._show = show
        self._rest = b""
        self.all: list[str] = []

    def take(self, data: bytes) -> None:
        """Take DATA, which may end in the middle of a line."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        for line in whole:
            self._add(line)

    def finish(self) -> None:
        """Nothing follows."""
        self._add(self._rest)
        self._rest = b""

    def _add(self, raw: bytes) -> None:
        line = clean(raw.decode(errors="replace"))
        if line:
            self.all.append(line)
            self._show(line)


def clean(line: str) -> str:
    """Return LINE as a terminal would show it in the end: without colours, progress overwritten."""
    return _CONTROL.sub("", line).rstrip("\r\n").rpartition("\r")[2].rstrip()


def failure(message: str, log: str | None, lines: Sequence[str] = ()) -> BuildError:
    """Return what to tell about a failure with MESSAGE, before which Guix wrote LINES.

    LOG is the file name of the log of the build that failed, None if none did.
    """
    if log is None:
        return BuildError(message, tail=tuple(lines[-_TAIL_LINES:]))
    return BuildError(message, log=log, tail=_tail(Path(log), lines))


_DECOMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".bz2": bz2.decompress,
}


def _tail(log: Path, lines: Sequence[str]) -> tuple[str, ...]:
    """Return the last lines of LOG, or of what guix wrote if it cannot be read."""
    try:
        text = _DECOMPRESS.get(log.suffix, bytes)(log.read_bytes()).decode(errors="replace")
    except (OSError, EOFError, zlib.error):
        return tuple(lines[-_TAIL_LINES:])
    return tuple(clean(line) for line in text.splitlines()[-_TAIL_LINES:])
