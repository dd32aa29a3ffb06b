# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare pyguixvm with the underlying tools, in pairs, and print the ratios.

    make bench            or, in the test bed:  tests/bench/run.py [--json] [--runs N]

Every pair is run in turn, so that what else the machine does falls on both.  A goal
that is missed is marked, and is no failure: machines are noisy.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

CONFIG = Path(__file__).parent / "configs" / "base.scm"
MACHINE = "bench"
CHANGING = Path(__file__).parents[1] / "e2e" / "configs" / "change.scm"
CHANGING_MAC = "52:54:00:ab:cd:01"


class Row(msgspec.Struct, frozen=True):
    """Median seconds of both; the goal bounds RATIO, or (absolute) the seconds of OURS."""

    what: str
    ours: float
    theirs: float
    theirs_is: str
    ratio: float
    goal: str
    reached: bool


def run(*argv: str | Path, **environment: str) -> str:
    done = subprocess.run(
        [str(word) for word in argv],
        capture_output=True, text=True, check=False, env={**os.environ, **environment},
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{' '.join(map(str, argv))} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def seconds(body: Callable[[], object]) -> float:
    begun = time.perf_counter()
    body()
    return time.perf_counter() - begun


def pair(
    what: str, ours: Callable[[], object], theirs: Callable[[], object], theirs_is: str,
    runs: int, ratio_goal: float,
) -> Row:  # fmt: skip
    """Time OURS and THEIRS in turn, RUNS times."""
    times = [(seconds(ours), seconds(theirs)) for _ in range(runs)]
    ratio = statistics.median(a / b for a, b in times)
    mine, others = (statistics.median(column) for column in zip(*times, strict=True))
    return Row(what, mine, others, theirs_is, ratio, f"≤ {ratio_goal:g}", ratio <= ratio_goal)


def edited(directory: Path) -> Callable[[], Path]:
    """Return what gives another edition of the configuration each time it is called."""
    text = CONFIG.read_text()
    numbers = iter(range(10**6))

    def edit() -> Path:
        path = directory / "config.scm"
        path.write_text(text.replace("EDITION", f"edition {next(numbers)} {os.getpid()}"))
        return path

    return edit


def startup(runs: int) -> Row:
    times = [
        (
            seconds(lambda: run("pyguixvm", "--help")),
            seconds(lambda: run(sys.executable, "-c", "pass")),
        )
        for _ in range(2 * runs)
    ]
    ours, theirs = (statistics.median(column) for column in zip(*times, strict=True))
    extra = statistics.median(a - b for a, b in times)
    return Row("--help", ours, theirs, "python -c pass", ours / theirs, "+ 120 ms", extra <= 0.120)


def evaluations(runs: int, edit: Callable[[], Path]) -> Iterator[Row]:
    def derivation(path: Path) -> str:
        return run("guix", "system", "image", "-d", "-t", "mbr-hybrid-raw", path).strip()

    path = edit()
    ours = run("pyguixvm", "build", "--derivation", path).strip()
    if ours != derivation(path):
        sys.exit("the derivations differ: there is nothing to compare")
    yield pair(
        "build --derivation, edited, warm",
        lambda: run("pyguixvm", "build", "--derivation", edit()),
        lambda: derivation(edit()),
        "guix system image -d", runs, 0.08,
    )  # fmt: skip
    yield pair(
        "build --derivation, edited, no evaluator running",
        lambda: run("pyguixvm", "build", "--derivation", edit(), PYGUIXVM_EVALUATOR="off"),
        lambda: derivation(edit()),
        "guix system image -d", runs, 1.1,
    )  # fmt: skip


def unchanged(runs: int, path: Path) -> Row:
    """Deploy once, then again and again; by hand, have Guix find nothing to build."""
    try:
        run("pyguixvm", "deploy", path)
        run("guix", "system", "image", "-t", "mbr-hybrid-raw", path)
        return pair(
            "deploy, nothing changed",
            lambda: run("pyguixvm", "deploy", path),
            lambda: run("guix", "system", "image", "-t", "mbr-hybrid-raw", path),
            "guix system image", runs, 0.5,
        )  # fmt: skip
    finally:
        run("pyguixvm", "undefine", "--yes", MACHINE)


def growths(runs: int, image: Path, directory: Path) -> Iterator[Row]:
    """Each way to grow, against a sparse copy that is grown in place."""
    grow = (
        "import sys; from pathlib import Path; from pyguixvm.image.grow import grow\n"
        "overlay = Path(sys.argv[2]); overlay.unlink(missing_ok=True)\n"
        "grow(Path(sys.argv[1]), 'raw', overlay, 10 * 1024**3, emit=lambda event: None)\n"
    )
    copy = directory / "copy.raw"
    by_hand = (
        'cp --sparse=always "$1" "$2" && chmod u+w "$2" && truncate -s 10G "$2" &&'
        ' echo ", +" | sfdisk -q -N 2 "$2" &&'
        ' start=$(sfdisk -J "$2" | grep -o "\\"start\\": *[0-9]*" | tail -1 | tr -dc 0-9) &&'
        ' dd if="$2" of="$2.part" bs=1M skip=$((start / 2048)) conv=sparse status=none &&'
        ' { e2fsck -fp "$2.part" >/dev/null || [ $? -eq 1 ]; } &&'
        ' resize2fs "$2.part" >/dev/null 2>&1 &&'
        ' dd if="$2.part" of="$2" bs=1M seek=$((start / 2048)) conv=sparse,notrunc status=none &&'
        ' qemu-img convert -O qcow2 "$2" "$2.qcow2"'
    )
    for method, goal in (("fuse", 1.0), ("metadata", 1.0), ("copy", 1.5)):
        yield pair(
            f"grow to 10G: {method}",
            lambda method=method: run(
                sys.executable, "-c", grow, image, directory / "grown", PYGUIXVM_GROW=method
            ),
            lambda: run("sh", "-c", by_hand, "grow", image, copy),
            "copy, sfdisk, resize2fs, convert", runs, goal,
        )  # fmt: skip


def downtimes(runs: int) -> Row:
    """How long a guest is away: for another system, and for a restart with virsh.

    Both end when the guest has renewed its lease; Guix builds before the first stops.
    """
    editions = iter(range(10**6))

    def deploy() -> None:
        edition = f"edition {next(editions)} {os.getpid()}"
        run("pyguixvm", "deploy", CHANGING, PYGUIXVM_TEST_EDITION=edition)

    def update() -> float:
        deploy()
        found = json.loads(run("pyguixvm", "generations", "change", "--json"))["generations"]
        return float(next(g["downtime"] for g in found if g["current"]))

    def restart() -> float:
        before = leases()
        begun = time.perf_counter()
        run("virsh", "-q", "-c", "qemu:///system", "shutdown", "change", "--mode", "agent")
        while "shut off" not in run("virsh", "-c", "qemu:///system", "domstate", "change"):
            time.sleep(0.1)
        run("virsh", "-q", "-c", "qemu:///system", "start", "change")
        while leases() == before:
            time.sleep(0.1)
        return time.perf_counter() - begun

    def leases() -> list[str]:
        listed = run("virsh", "-q", "-c", "qemu:///system", "net-dhcp-leases", "default")
        return [line for line in listed.splitlines() if CHANGING_MAC in line]

    try:
        deploy()
        times = [(update(), restart()) for _ in range(runs)]
    finally:
        run("pyguixvm", "undefine", "--yes", "change")
    ratio = statistics.median(a / b for a, b in times)
    ours, theirs = (statistics.median(column) for column in zip(*times, strict=True))
    return Row(
        "away for another system", ours, theirs, "virsh shutdown, start", ratio, "≤ 1.1",
        ratio <= 1.1,
    )  # fmt: skip


def show(rows: list[Row]) -> None:
    table = Table("what", "pyguixvm", "by hand", "by hand is", "ratio", "goal", "", box=None)
    for row in rows:
        table.add_row(
            row.what, f"{row.ours:.2f} s", f"{row.theirs:.2f} s", row.theirs_is,
            f"{row.ratio:.2f}", row.goal, "" if row.reached else "missed",
        )  # fmt: skip
    Console(width=130).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare pyguixvm with the underlying tools.")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="pairs for each row")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pyguixvm-bench-") as name:
        directory = Path(name)
        edit = edited(directory)
        rows = [startup(options.runs), *evaluations(options.runs, edit)]
        path = edit()
        rows.append(unchanged(options.runs, path))
        image = Path(run("pyguixvm", "build", path).strip())
        rows += growths(options.runs, image, directory)
    rows.append(downtimes(max(1, options.runs // 2)))
    if options.json:
        print(json.dumps(msgspec.to_builtins(rows), indent=2))
    else:
        show(rows)


if __name__ == "__main__":
    main()
