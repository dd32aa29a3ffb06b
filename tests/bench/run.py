# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare pyguixvm with the underlying tools, in pairs, and print the ratios.

    make bench            or, in the test bed:  tests/bench/run.py [--json] [--runs N] [PART]...

Every pair is run in turn, so that what else the machine does falls on both.  A goal
that is missed is marked, and is no failure: machines are noisy.  Beside it is the limit, what
libvirt, Guix and the disk take themselves, as they are, and how many times that it took.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import composed
import elsewhere
import evaluation
import growth
import in_place
import live
import loop
import msgspec
import planning
import scale
import scrapes
import transfers
import updates
import volumes
from measure import FailedCommandError, Row
from workspace import Workspace


@dataclass(frozen=True)
class Part:
    """A part of the bench: ROWS yields a row as soon as it is known.

    PAIR and ONCE are about how many seconds a pair takes, and what is done once, on two
    processors without KVM.
    """

    rows: Callable[[int, Workspace], Iterable[Row]]
    pair: int
    once: int = 0

    def words(self, runs: int) -> str:
        """Say how long RUNS pairs take."""
        seconds = self.once + runs * self.pair
        return f"{seconds} s" if seconds < _SHORT else f"{seconds / 60:.0f} minutes"


PARTS = {
    "startup": Part(lambda runs, _: evaluation.startup(runs), 1),
    "evaluation": Part(evaluation.evaluations, 70, 80),
    "unchanged": Part(evaluation.unchanged, 15, 30),
    "grow": Part(volumes.growths, 40),
    "plan": Part(planning.hundred, 2, 15),
    "scale": Part(scale.sizes, 0, 90),
    "transfers": Part(transfers.over_a_line, 0, 250),
    "elsewhere": Part(elsewhere.edits, 20, 180),
    "via": Part(composed.over_a_line, 150, 120),
    "scrapes": Part(scrapes.scrapes, 0, 90),
    "loop": Part(loop.deployments, 500, 120),
    "first": Part(loop.first, 70, 80),
    "several": Part(loop.several, 150),
    "live": Part(live.saves, 100, 300),
    "in-place": Part(in_place.activations, 180, 120),
    "edits": Part(growth.edits, 10, 60),
    "closures": Part(growth.closures, 20, 60),
    "downtime": Part(updates.downtimes, 150, 120),
}
# More than this many seconds are told as minutes.
_SHORT = 100
_WIDTHS = (44, 9, 9, 36, 7, 14, 8, 6, 0)
_HEADING = (
    "what", "pyguixvm", "by hand", "by hand is", "ratio", "goal", "limit", "times", "limit is",
)  # fmt: skip


def line(cells: Iterable[str]) -> str:
    """Return CELLS as one line of the table."""
    return " ".join(cell.ljust(width) for cell, width in zip(cells, _WIDTHS, strict=False)).rstrip()


def lines(row: Row) -> list[str]:
    """Return ROW as lines of the table."""
    missed = " missed" if row.reached is False else ""
    shown = line((
        row.what, f"{row.ours:.2f} s", f"{row.theirs:.2f} s" if row.theirs else "-",
        row.theirs_is, f"{row.ratio:.3g}" if row.ratio else "-", row.goal + missed,
        *_limit(row),
    ))  # fmt: skip
    return [shown, f"    {row.note}"] if row.note else [shown]


def _limit(row: Row) -> tuple[str, str, str]:
    """Return the limit of ROW, how many times that it took, and what the limit is."""
    if not row.limit:
        return "-", "-", ""
    return f"{row.limit:.2f} s", f"{row.ours / row.limit:.2g}", row.limit_is


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare pyguixvm with the underlying tools.")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="pairs for each row")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {min(unknown)}; there are {', '.join(PARTS)}")
    rows: list[Row] = []
    failed = 0
    load = os.getloadavg()[0]
    if not options.json:
        print(f"load of the machine at the beginning: {load:.1f}")
        print(line(_HEADING), flush=True)
    with tempfile.TemporaryDirectory(prefix="pyguixvm-bench-") as name:
        work = Workspace(Path(name))
        for part in options.parts or PARTS:
            words = PARTS[part].words(options.runs)
            print(f"{part}: about {words}", file=sys.stderr, flush=True)
            try:
                for row in PARTS[part].rows(options.runs, work):
                    rows.append(row)
                    if not options.json:
                        print("\n".join(lines(row)), flush=True)
            except FailedCommandError as error:
                failed = 1
                print(f"{part}: {error}", file=sys.stderr)
    if options.json:
        print(json.dumps({"load": load, "rows": msgspec.to_builtins(rows)}, indent=2))
    return failed


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted; the rows above stand")
