# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs beside a test."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """What /proc told of a process: it may have ended since."""

    pid: int
    owner: int
    arguments: bytes


def each_process() -> Iterator[Process]:
    for place in Path("/proc").glob("[0-9]*"):
        # What is listed may have ended when it is read: ENOENT or, once it is open, ESRCH.
        with suppress(FileNotFoundError, ProcessLookupError):
            arguments = (place / "cmdline").read_bytes()
            yield Process(int(place.name), place.stat().st_uid, arguments)


def processes_naming(words: Path | str) -> list[Process]:
    """Return those with WORDS in their arguments."""
    return [each for each in each_process() if str(words).encode() in each.arguments]
