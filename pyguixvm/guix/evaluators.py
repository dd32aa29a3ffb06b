# SPDX-License-Identifier: GPL-3.0-or-later
"""The evaluators that stay, of this user: which there are, and ending them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from pyguixvm.decoding import decode

_KIB = 1024
# Seconds that an evaluator may take to answer; while it fills its caches it takes none.
_SECONDS = 30.0


class Evaluator(msgspec.Struct, frozen=True):
    """An evaluator: process PID, of the program GUIX, that has MEMORY bytes.

    MEMORY counts what it shares with others as its part of that.  BUSY evaluators fill their
    caches, and tell nothing else.
    """

    pid: int | None
    guix: str | None
    memory: int | None
    busy: bool = False


class _Pong(msgspec.Struct):
    pid: int


class _Answer(msgspec.Struct):
    pong: _Pong | None = None


def running(directory: Path, *, seconds: float = _SECONDS) -> tuple[Evaluator, ...]:
    """Return the evaluators that can be reached in DIRECTORY."""
    return tuple(found for _, found in _running(directory, seconds))


def stop(directory: Path, *, seconds: float = _SECONDS) -> tuple[Evaluator, ...]:
    """End the evaluators in DIRECTORY; return those that were there.

    What they evaluate goes on until it is done.
    """
    found = tuple(_running(directory, seconds))
    for address, _ in found:
        # One that is busy reads it when it is done.
        with suppress(TimeoutError):
            _ask(address, "stop", seconds)
    return tuple(evaluator for _, evaluator in found)


def _running(directory: Path, seconds: float) -> Iterator[tuple[Path, Evaluator]]:
    for address in sorted(directory.glob("*.socket")):
        try:
            answer = _ask(address, "ping", seconds)
        except TimeoutError:
            yield address, Evaluator(None, None, None, busy=True)
            continue
        if answer is not None and answer.pong is not None:
            pid = answer.pong.pid
            yield address, Evaluator(pid, _guix(pid), _memory(pid))


def _ask(address: Path, command: str, seconds: float) -> _Answer | None:
    """Return the answer to COMMAND of the evaluator at ADDRESS, None if there is none.

    Raises TimeoutError if it does not say anything for SECONDS.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(seconds)
        try:
            connection.connect(str(address))
            connection.sendall(msgspec.json.encode({"command": command}) + b"\n")
            with connection.makefile("rb") as lines:
                return decode(lines.readline(), _Answer)
        except (FileNotFoundError, ConnectionError, msgspec.DecodeError):
            # One that crashed leaves its socket behind.
            return None


def _guix(pid: int) -> str | None:
    """Return the guix that process PID is, as far as its command line tells."""
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        with suppress(ValueError):
            return words[words.index(b"repl") - 1].decode(errors="replace")
    return None


def _memory(pid: int) -> int | None:
    """Return the bytes that process PID has, of shared ones its part."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "Pss":
                return int(value.split()[0]) * _KIB
    return None
