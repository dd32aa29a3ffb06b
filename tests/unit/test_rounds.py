# SPDX-License-Identifier: GPL-3.0-or-later
"""What watch prints in a pipe."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from pyguixvm.cli.options import Options
from pyguixvm.cli.progress import PlainProgress
from pyguixvm.cli.rounds import Ended, JsonRounds
from pyguixvm.errors import InterruptedRequestError
from pyguixvm.events import BuildOutput, ChangePlanned, PlannedDifference
from pyguixvm.reconcile.outcome import Outcome

PLANNED = ChangePlanned(
    machine="web",
    effect="replace",
    differences=(PlannedDifference("domain.memory", 1, 2, "live"),),
    strategy="full",
    reason="asked for",
    generation=4,
    target=5,
    state="running",
)


def test_each_thing_is_one_line_of_json_up_to_the_interruption(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rounds = JsonRounds(Options(json=True))
    rounds.emit(PLANNED)
    rounds.emit(BuildOutput("one of thousands"))
    rounds.outcomes([Outcome("web", "updated")])
    rounds.waiting(Ended(Path("config.scm"), 0, "1.0 s"))
    rounds.error(InterruptedRequestError("interrupted"))
    planned, deployed, note, failed = map(json.loads, capsys.readouterr().out.splitlines())
    assert planned == {
        "type": "planned",
        "machine": "web",
        "effect": "replace",
        "differences": [
            {"path": "domain.memory", "old": 1, "new": 2, "effect": "live", "pending": False}
        ],
        "strategy": "full",
        "reason": "asked for",
        "refusal": None,
        "generation": 4,
        "target": 5,
        "state": "running",
    }
    assert (deployed["type"], deployed["machines"][0]["outcome"]) == ("deployed", "updated")
    assert note == {"type": "note", "message": "1.0 s; waiting for config.scm to be saved"}
    assert (failed["type"], failed["error"]["status"]) == ("failed", 130)


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (PLANNED, "web: replace for domain.memory, full: asked for\n"),
        (ChangePlanned("web", "create", strategy="full", reason="new"), "web: create, full: new\n"),
        (ChangePlanned("web", "none"), ""),
        (ChangePlanned("web", "replace", refusal="it is protected"), ""),
    ],
)
def test_a_plan_is_one_line_unless_there_is_nothing_to_do(event: ChangePlanned, line: str) -> None:
    stream = io.StringIO()
    PlainProgress(stream, 0).show(event)
    assert stream.getvalue() == line
