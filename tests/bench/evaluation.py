# SPDX-License-Identifier: GPL-3.0-or-later
"""Start-up, derivations, and a deployment with nothing to do, beside guix."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator

from limits import beside, lowered, python
from measure import Row, pair, run, seconds, stop
from workspace import Workspace

# Guix's own packages, as a user has them: in the test bed, those of Debian that take their
# place make 'guix system image' unusually quick.  Without grafts, as nothing can be built there.
_OWN_PACKAGES = {"PYGUIXVM_TESTBED_PACKAGES": "guix", "GUIX_BUILD_OPTIONS": "--no-grafts"}
# Seconds until an evaluator that has served somebody has filled its caches, and one that was
# loaded from source is succeeded by a compiled one.
_WARM_UP = 40


def startup(runs: int) -> Iterator[Row]:
    times = [
        (
            seconds(lambda: run("pyguixvm", "--help")),
            seconds(lambda: run(sys.executable, "-c", "pass")),
        )
        for _ in range(2 * runs)
    ]
    ours, theirs = (statistics.median(column) for column in zip(*times, strict=True))
    extra = statistics.median(a - b for a, b in times)
    yield Row(
        "--help", ours, theirs, "python -c pass", ours / theirs, "+ 80 ms", extra <= 0.080,
        limit=theirs, limit_is="python",
    )  # fmt: skip


def evaluations(runs: int, work: Workspace) -> Iterator[Row]:
    yield from _evaluations(runs, work, "packages of this guix", {})
    # An evaluator that runs has the packages that it was started with.
    runtime = work.directory / "own-packages"
    runtime.mkdir(mode=0o700, exist_ok=True)
    own = {**_OWN_PACKAGES, "XDG_RUNTIME_DIR": str(runtime)}
    try:
        yield from _evaluations(runs, work, "Guix's own packages", own)
    finally:
        run("pyguixvm", "evaluator", "stop", **own)


def _evaluations(
    runs: int, work: Workspace, packages: str, environment: dict[str, str]
) -> Iterator[Row]:
    def derivation() -> str:
        argv = ("guix", "system", "image", "-d", "-t", "mbr-hybrid-raw", work.system)
        return run(*argv, **environment).strip()

    def theirs() -> None:
        work.edit()
        derivation()

    def ours(**evaluator: str) -> None:
        work.edit()
        run("pyguixvm", "build", "--derivation", work.system, **environment, **evaluator)

    work.edit()
    got = run("pyguixvm", "build", "--derivation", work.system, **environment).strip()
    if got != derivation():
        stop("the derivations differ: there is nothing to compare")
    time.sleep(_WARM_UP)
    warm = pair(
        f"build --derivation, edited, warm: {packages}",
        ours, theirs, "guix system image -d", runs, 0.08,
    )  # fmt: skip
    yield beside(warm, python() + lowered(work, **environment))
    yield pair(
        f"build --derivation, edited, no evaluator: {packages}",
        lambda: ours(PYGUIXVM_EVALUATOR="off"), theirs, "guix system image -d", runs, 1.1,
    )  # fmt: skip


def unchanged(runs: int, work: Workspace) -> Iterator[Row]:
    """Deploy once, then again and again; by hand, have Guix find nothing to build."""
    work.edit(booted=False)
    try:
        run("pyguixvm", "deploy", work.machines)
        run("guix", "system", "image", "-t", "mbr-hybrid-raw", work.system)
        yield pair(
            "deploy, nothing changed",
            lambda: run("pyguixvm", "deploy", work.machines),
            lambda: run("guix", "system", "image", "-t", "mbr-hybrid-raw", work.system),
            "guix system image", runs, 0.5,
        )  # fmt: skip
    finally:
        run("pyguixvm", "undefine", "--yes", "bench")
