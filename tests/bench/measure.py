# SPDX-License-Identifier: GPL-3.0-or-later
"""Running commands as a person does, and what that took; rows of the table."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

# Whose writing counts as ours or the tools': what they are asked for, they do themselves.
_DAEMONS = frozenset({"guix-daemon", "libvirtd", "guile"})


class Row(msgspec.Struct, frozen=True):
    """Median seconds of both; the GOAL bounds the ratio, or as GOAL says.  REACHED: None if none.

    LIMIT is what the tools take themselves, all else warm (seconds), and LIMIT_IS what that
    consists of, see `limits`; 0 where what is done by hand is nothing else.
    NOTE says what else there is to know.
    """

    what: str
    ours: float
    theirs: float
    theirs_is: str
    ratio: float
    goal: str = ""
    reached: bool | None = None
    note: str = ""
    limit: float = 0.0
    limit_is: str = ""


class Cost(msgspec.Struct, frozen=True):
    """What one command, or several, took: seconds in all and for each phase, bytes, peak memory.

    WRITTEN is what the command, what it started, and the daemons gave to files; SENT what
    is in the pool for it afterwards.
    """

    seconds: float
    phases: dict[str, float]
    written: int = 0
    sent: int = 0
    memory: int = 0
    evaluator: int = 0

    @property
    def boot(self) -> float:
        """Seconds until the started guest was ready."""
        return self.phases.get("ready", 0.0)

    @property
    def work(self) -> float:
        """Seconds without those that guests take to boot and to stop: no tool makes these fewer."""
        return self.seconds - self.boot - self.phases.get("stop", 0.0)

    @property
    def in_words(self) -> str:
        """The seconds of each phase."""
        return ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in self.phases.items())

    def without(self, *phases: str) -> float:
        """Return the seconds of the work without those of PHASES."""
        return self.work - sum(self.phases.get(phase, 0.0) for phase in phases)


class FailedCommandError(Exception):
    """A command failed; its standard error is the text."""


def run(*argv: str | Path, **environment: str) -> str:
    """Return the standard output of a command that has to succeed."""
    done = subprocess.run(
        [str(word) for word in argv],
        capture_output=True, text=True, check=False, env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode:
        words = " ".join(map(str, argv))
        raise FailedCommandError(f"{words} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def virsh(*arguments: str | Path) -> str:
    return run("virsh", "-q", "-c", "qemu:///system", *arguments)


def seconds(body: Callable[[], object]) -> float:
    begun = time.perf_counter()
    body()
    return time.perf_counter() - begun


class Weighed(msgspec.Struct, frozen=True):
    """What a command wrote, how long it took (seconds), and its peak memory (bytes)."""

    out: str
    err: str
    seconds: float
    memory: int


def weighed(*argv: str | Path) -> Weighed:
    """Run a command that has to succeed."""
    begun = time.perf_counter()
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(
            [str(word) for word in argv],
            stdin=subprocess.DEVNULL, stdout=output, stderr=errors,
        )  # fmt: skip
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        took = time.perf_counter() - begun
        output.seek(0)
        errors.seek(0)
        out, err = (file.read().decode(errors="replace") for file in (output, errors))
    if child.returncode:
        words = " ".join(map(str, argv))
        raise FailedCommandError(f"{words} ended with {child.returncode}:\n{err}")
    return Weighed(out, err, took, usage.ru_maxrss * 1024)


def pair(
    what: str, ours: Callable[[], object], theirs: Callable[[], object], theirs_is: str,
    runs: int, goal: float,
) -> Row:  # fmt: skip
    """Time OURS and THEIRS in turn, RUNS times."""
    return compared(
        what, [(seconds(ours), seconds(theirs)) for _ in range(runs)], theirs_is, goal=goal
    )


def compared(
    what: str, times: list[tuple[float, float]], theirs_is: str, *,
    goal: float | None = None, note: str = "",
) -> Row:  # fmt: skip
    """Return the row for TIMES, pairs of seconds, ours first."""
    ratio = statistics.median(a / b for a, b in times)
    mine, others = (statistics.median(column) for column in zip(*times, strict=True))
    if goal is None:
        return Row(what, mine, others, theirs_is, ratio, note=note)
    return Row(what, mine, others, theirs_is, ratio, f"≤ {goal:g}", ratio <= goal, note)


@contextmanager
def writing() -> Iterator[Callable[[], int]]:
    """Yield a function that returns how many bytes were written since (proc(5), io).

    What others have the same daemons do meanwhile counts as well.
    """
    before = _written()
    yield lambda: max(0, _written() - before)


def _written() -> int:
    total = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            name = (process / "comm").read_text().strip()
            if name in _DAEMONS or process.name == str(os.getpid()):
                # With what those of its children wrote that have ended.
                lines = (process / "io").read_text().splitlines()
                total += int(next(line for line in lines if line.startswith("write_bytes"))[13:])
        except OSError:
            continue
    return total


class EvaluatorMemory:
    """The most memory (bytes) that a process of our evaluator had, while it is entered."""

    def __init__(self) -> None:
        self.peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> EvaluatorMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.05):
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    if (process / "comm").read_text().strip() != "guile":
                        continue
                    if b"evaluator-main.scm" not in (process / "cmdline").read_bytes():
                        continue
                    status = (process / "status").read_text()
                except OSError:
                    continue
                if "VmHWM:" in status:
                    self.peak = max(self.peak, int(status.partition("VmHWM:")[2].split()[0]) * 1024)


def stop(message: str) -> None:
    """End the bench: there is nothing to compare."""
    sys.exit(message)
