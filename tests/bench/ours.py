# SPDX-License-Identifier: GPL-3.0-or-later
"""Deploying with pyguixvm, and what that took."""

from __future__ import annotations

import json
import re
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from measure import Cost, EvaluatorMemory, FailedCommandError, run, weighed, writing

from pyguixvm.cli.ui.progress import DONE

_FINISHED = re.compile(
    rf"^(?:[^ ]+: )?(?P<done>{'|'.join(map(re.escape, DONE.values()))})"
    r"(?:: .*)? \((?P<seconds>[0-9.]+) s\)$",
    re.MULTILINE,
)
_PHASES = {done: phase for phase, done in DONE.items()}


def deploy(config: Path, *options: str) -> Cost:
    """Deploy CONFIG.  Raises FailedCommandError."""
    with writing() as written, EvaluatorMemory() as evaluator:
        done = weighed("pyguixvm", "deploy", config, *options)
        bytes_written = written()
    phases: dict[str, float] = {}
    for found in _FINISHED.finditer(done.err):
        phase = _PHASES[found["done"]]
        phases[phase] = phases.get(phase, 0.0) + float(found["seconds"])
    return Cost(
        seconds=done.seconds,
        phases=phases,
        written=bytes_written,
        sent=_volumes(),
        memory=done.memory,
        evaluator=evaluator.peak,
    )


def started(config: Path, *options: str) -> float:
    """Deploy CONFIG, of one machine; return the seconds until its guest was started.

    Those are left out that the guest before it took to stop.  Raises FailedCommandError.
    """
    begun, took, stopped, said = time.perf_counter(), 0.0, 0.0, []
    words = ["pyguixvm", "deploy", str(config), *options]
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True,
    ) as child:  # fmt: skip
        for line in child.stderr or ():
            said.append(line)
            found = _FINISHED.match(line)
            if found and _PHASES[found["done"]] == "start":
                took = time.perf_counter() - begun
            elif found and _PHASES[found["done"]] == "stop":
                stopped = float(found["seconds"])
    if child.returncode or not took:
        ended = f"{' '.join(words)} ended with {child.returncode}"
        raise FailedCommandError(f"{ended}:\n{''.join(said)}")
    return took - stopped


def _volumes() -> int:
    """Return what the current root volumes take (bytes)."""
    found = json.loads(run("pyguixvm", "generations", "--json"))["generations"]
    return sum(g["size"] or 0 for g in found if g["current"] and g["machine"].startswith("bench"))


def remove() -> None:
    """Remove the machines of the bench, and volumes and roots that they leave."""
    listed = json.loads(run("pyguixvm", "list", "--json"))["machines"]
    names = [m["name"] for m in listed if re.fullmatch("bench(-[0-9]+)?", m["name"])]
    if names:
        run("pyguixvm", "undefine", "--yes", "--delete-data", *names)


def supported(strategy: str, config: Path) -> bool:
    """Whether this version deploys with STRATEGY."""
    with suppress(FailedCommandError):
        planned = json.loads(run("pyguixvm", "plan", "--json", "--strategy", strategy, config))
        machines = [machine for plan in planned["plans"] for machine in plan["machines"]]
        return all(machine["refusal"] is None for machine in machines)
    return False
