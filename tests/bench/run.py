# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare pyguixvm with the underlying tools, in pairs, and print the ratios.

    make bench            or, in the test bed:  tests/bench/run.py [--json] [--runs N] [PART]...

Every pair is run in turn, so that what else the machine does falls on both.  A goal
that is missed is marked, and is no failure: machines are noisy.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import evaluation
import growth
import in_place
import loop
import msgspec
import planning
import updates
import volumes
from measure import FailedCommandError, Row
from rich.console import Console
from rich.table import Table
from workspace import Workspace

Part = Callable[[int, Workspace], Iterable[Row]]

PARTS: dict[str, Part] = {
    "startup": lambda runs, _: evaluation.startup(runs),
    "evaluation": evaluation.evaluations,
    "unchanged": evaluation.unchanged,
    "grow": volumes.growths,
    "plan": planning.hundred,
    "loop": loop.deployments,
    "several": loop.several,
    "in-place": in_place.activations,
    "edits": growth.edits,
    "closures": growth.closures,
    "downtime": updates.downtimes,
}


def table(rows: list[Row]) -> Table:
    shown = Table("what", "pyguixvm", "by hand", "by hand is", "ratio", "goal", "", box=None)
    for row in rows:
        mark = {True: "", False: "missed", None: ""}[row.reached]
        shown.add_row(
            row.what, f"{row.ours:.2f} s", f"{row.theirs:.2f} s" if row.theirs else "-",
            row.theirs_is, f"{row.ratio:.3g}" if row.ratio else "-", row.goal, mark,
        )  # fmt: skip
        if row.note:
            shown.add_row(f"    {row.note}")
    return shown


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
    with tempfile.TemporaryDirectory(prefix="pyguixvm-bench-") as name:
        work = Workspace(Path(name))
        for part in options.parts or PARTS:
            print(f"{part}…", file=sys.stderr)
            try:
                rows.extend(PARTS[part](options.runs, work))
            except FailedCommandError as error:
                failed = 1
                print(f"{part}: {error}", file=sys.stderr)
    if options.json:
        print(json.dumps({"load": load, "rows": msgspec.to_builtins(rows)}, indent=2))
    else:
        Console(width=max(130, Console().width)).print(table(rows))
        print(f"load of the machine at the beginning: {load:.1f}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
