# SPDX-License-Identifier: GPL-3.0-or-later
"""What Guix says while it builds, and the logs that it names."""

from __future__ import annotations

import bz2
import gzip
import re
import zlib
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO

from pyguixvm.errors import BuildError

_TAIL_LINES = 20
# Builders write what they like, without a line break maybe (characters, as bytes).
_LONGEST_LINE = 4096
# Of a log so much is read (bytes): a small file may hold very much that is the same.
_CHUNK, _CHUNKS = 1024**2, 256
# Colours and the erasing of lines (ECMA-48, control sequences).
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


class Lines:
    """Text that comes in pieces, as lines; of a longer one, the parts are lines."""

    def __init__(self, show: Callable[[str], None]) -> None:
        """Have SHOW called with each line that is not empty."""
        self._show = show
        self._rest = b""
        self.last: deque[str] = deque(maxlen=_TAIL_LINES)

    def take(self, data: bytes) -> None:
        """Take DATA, which may end in the middle of a line."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        for line in whole:
            self._add(line)
        if len(self._rest) > _LONGEST_LINE:
            self._rest = _seen(self._rest)
        if len(self._rest) > _LONGEST_LINE:
            self.finish()

    def finish(self) -> None:
        """Nothing follows."""
        self._add(self._rest)
        self._rest = b""

    def _add(self, whole: bytes) -> None:
        raw = _seen(whole)
        for at in range(0, len(raw), _LONGEST_LINE):
            line = clean(raw[at : at + _LONGEST_LINE].decode(errors="replace"))
            if line:
                self.last.append(line)
                self._show(line)


def _seen(line: bytes) -> bytes:
    """Return what of LINE is not overwritten, as progress is."""
    return line.rstrip(b"\r").rpartition(b"\r")[2]


def clean(line: str) -> str:
    """Return LINE as a terminal would show it in the end: without colours, progress overwritten."""
    return _CONTROL.sub("", line).rstrip("\r\n").rpartition("\r")[2].rstrip()


def failure(message: str, log: str | None, lines: Iterable[str] = ()) -> BuildError:
    """Return what to tell about a failure with MESSAGE, before which Guix wrote LINES, the last.

    LOG is the file name of the log of the build that failed, None if none did.
    """
    if log is None:
        return BuildError(message, tail=tuple(lines))
    return BuildError(message, log=log, tail=_tail(Path(log)) or tuple(lines))


def _tail(log: Path) -> tuple[str, ...]:
    """Return the last lines of LOG; nothing if it cannot be read, or has no end."""
    last = b""
    try:
        with _opened(log) as file:
            for _ in range(_CHUNKS):
                data = file.read(_CHUNK)
                if not data:
                    break
                last = (last + data)[-_TAIL_LINES * _LONGEST_LINE :]
            else:
                return ()
    except (OSError, EOFError, zlib.error):
        return ()
    lines = last.decode(errors="replace").splitlines()[-_TAIL_LINES:]
    return tuple(clean(line)[-_LONGEST_LINE:] for line in lines)


def _opened(log: Path) -> IO[bytes] | gzip.GzipFile | bz2.BZ2File:
    if log.suffix == ".gz":
        return gzip.GzipFile(log)
    if log.suffix == ".bz2":
        return bz2.BZ2File(log)
    return log.open("rb")
