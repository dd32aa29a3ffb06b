# SPDX-License-Identifier: GPL-3.0-or-later
"""What libvirt, Guix and the disk take themselves.

Less is possible only where they are left less to do: Guix, as it is, lowers again what is new
but like something that it has lowered, as most of an edited system is; pyguixvm has it lower
that once, and may take less than this.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import msgspec
from measure import Cost, Row, run, seconds, virsh
from workspace import MACHINE, Workspace

_SCRIPT = Path(__file__).parent / "within-guix.scm"
_POOL = Path("/var/lib/libvirt/images")
_BLOCK = bytes(1024**2)


class Limit(msgspec.Struct, frozen=True):
    """SECONDS that something takes, which WORDS name."""

    seconds: float
    words: str

    def __add__(self, other: Limit) -> Limit:
        """Return what one after the other takes."""
        return Limit(self.seconds + other.seconds, f"{self.words}, {other.words}")


def beside(row: Row, limit: Limit) -> Row:
    """Return ROW with its LIMIT."""
    return msgspec.structs.replace(row, limit=limit.seconds, limit_is=limit.words)


def lowered(work: Workspace, **environment: str) -> Limit:
    """Measure what Guix takes for the derivations of WORK with a file changed, all else warm.

    It has ENVIRONMENT.
    """
    return Limit(_within_guix(work, **environment)[0], "Guix as it is lowers it, warm")


def built(work: Workspace) -> Limit:
    """Measure what Guix takes to have the system of WORK with a file changed, all else warm."""
    return Limit(sum(_within_guix(work, "build")), "Guix as it is lowers and builds it, warm")


def _within_guix(work: Workspace, *options: str, **environment: str) -> tuple[float, float]:
    before = work.directory / "before.scm"
    before.write_bytes(work.system.read_bytes())
    work.edit()
    argv = ("guix", "repl", "--", _SCRIPT, before, work.system, *options)
    lowering, building = map(float, run(*argv, **environment).split()[-2:])
    return lowering, building


def python() -> Limit:
    """Measure what a program in Python takes that does nothing."""
    return Limit(seconds(lambda: run(sys.executable, "-c", "pass")), "python")


def define_and_start(hand: Cost) -> Limit:
    """Return what virsh took for it by hand."""
    taken = sum(hand.phases.get(phase, 0.0) for phase in ("define", "start"))
    return Limit(taken, "virsh define, start")


def virsh_alone(command: str, *arguments: str) -> Limit:
    """Measure what virsh takes for COMMAND on the machine of the bench, with ARGUMENTS."""
    taken = seconds(lambda: virsh(command, MACHINE, *arguments))
    return Limit(taken, f"virsh {command}")


def written(size: int) -> Limit:
    """Measure how long it takes to have SIZE bytes on the disk of the pool."""

    def write() -> None:
        with tempfile.TemporaryFile(dir=_POOL) as file:
            for _ in range(max(1, size // len(_BLOCK))):
                file.write(_BLOCK)
            file.flush()
            os.fsync(file.fileno())

    return Limit(seconds(write), f"{size / 1024**2:.0f} MB to the disk")
