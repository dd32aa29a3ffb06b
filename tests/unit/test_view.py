# SPDX-License-Identifier: GPL-3.0-or-later
"""What watch shows on a terminal."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest
from rich.cells import cell_len

from pyguixvm.apply.outcome import Outcome
from pyguixvm.cli.ui import view, view_lines
from pyguixvm.cli.ui.progress import DOING, DONE
from pyguixvm.errors import EvaluationError, RolledBackError
from pyguixvm.events import (
    BuildOutput,
    ChangePlanned,
    Event,
    GuestOutput,
    Notice,
    Phase,
    PhaseFinished,
    PhaseProgress,
    PhaseStarted,
    Waiting,
)
from pyguixvm.model.difference import Difference

SAVED = 100.0
PLANNED = ChangePlanned(
    machine="web",
    effect="replace",
    differences=(
        Difference("operating-system", "one", "two", "replace"),
        Difference("domain.memory", 1024**3, 2 * 1024**3, "live"),
    ),
    strategy="increment",
    reason="its image is there to stand on",
    generation=4,
    target=5,
    state="running",
)


def test_every_phase_has_its_words() -> None:
    phases = set(get_args(Phase))
    assert phases == set(view.PARTS) == set(DOING) == set(DONE)


def first() -> view.View:
    started = view.View(config="config.scm", change=view.Change(begun=0.0, saved=""))
    return view.began(started, "12:03:04", SAVED)


def after(*events: Event) -> view.View:
    """Return the view when EVENTS have come, each half a second after the other."""
    shown = first()
    for number, event in enumerate(events, start=1):
        shown = view.happened(shown, event, SAVED + number / 2)
    return shown


def text(shown: view.View, width: int = 100, height: int = 30, now: float = SAVED + 5) -> str:
    return "\n".join(line.plain for line in view_lines.lines(shown, width, height, now))


GROWING = (
    PhaseStarted("evaluate", detail="config.scm"),
    PhaseFinished("evaluate", 0.25),
    PLANNED,
    PhaseStarted("build"),
    PhaseFinished("build", 1.5),
    PhaseStarted("transfer", "web"),
    PhaseProgress("transfer", 512 * 1024**2, 2 * 1024**3, "web"),
)
SWITCHED = (
    PhaseStarted("stop", "web"),
    PhaseFinished("stop", 2.0, "web"),
    PhaseStarted("define", "web"),
    PhaseFinished("define", 0.5, "web"),
    PhaseStarted("start", "web"),
    PhaseFinished("start", 0.3, "web"),
    PhaseStarted("ready", "web"),
)


def test_a_machine_shows_its_generations_and_how_far_its_phase_is() -> None:
    row = next(line for line in text(after(*GROWING)).splitlines() if " web " in line)
    assert "g4→g5" in row
    assert "sending the volume 512M of 2G" in row
    assert "25%" in row
    assert " 25%" in text(after(*GROWING), width=50)
    # It began with the sixth event, 3 s after the save, and now it is 5 s after it.
    assert row.endswith(" 2.0 s")


def test_the_last_change_says_what_differed_its_effect_the_way_and_the_time_of_its_parts() -> None:
    shown = text(after(*GROWING, *SWITCHED))
    assert "web  replace" in shown
    assert "by increment: its image is there to stand on" in shown
    assert "operating-system: one -> two (replace)" in shown
    assert "domain.memory: 1G -> 2G (live)" in shown
    parts = [line.split()[:2] for line in shown.splitlines() if "▬" in line]
    # Switching is stopping and defining.
    assert parts[0] == ["evaluate", "0.2"] or parts[0] == ["evaluate", "0.3"]
    assert ["build", "1.5"] in parts
    assert ["switch", "2.5"] in parts
    assert ["boot", "0.3"] in parts
    assert "5.0 s since the save" in shown


def test_a_guest_that_boots_says_what_is_waited_for_until_when_and_its_consoles_last_line() -> None:
    line = "[    1.2] \x1b]0;mine\x07 starting udev"
    shown = text(after(*SWITCHED, Waiting("web", "an address", 117.0, line)), now=SAVED + 14)
    row, console = shown.splitlines()[2:4]
    assert "waiting for an address" in row
    # It began 3.5 s after the save.
    assert row.endswith(" 10.5 s of 118")
    assert console.startswith("     | [    1.2]")
    assert console.endswith("starting udev")
    assert "\x1b" not in shown
    ready = PhaseFinished("ready", 20.0, "web", "address 10.0.0.5")
    assert "starting udev" not in text(
        after(*SWITCHED, Waiting("web", "an address", 117.0, line), ready)
    )


def test_a_guest_that_is_changed_says_its_last_line() -> None:
    switching = (PhaseStarted("activate", "web"), GuestOutput("web", "making \x1b[1m/etc"))
    assert "     | making /etc" in text(after(*switching)).splitlines()
    done = PhaseFinished("activate", 2.0, "web", "12 KB sent, restarted nginx")
    shown = text(after(*switching, done))
    assert "making" not in shown
    # What that did to services is told when it is over.
    assert "web: 12 KB sent, restarted nginx" in shown


def test_what_goes_on_counts_among_the_parts() -> None:
    shown = text(after(*GROWING, *SWITCHED), now=SAVED + 30)
    (ready,) = (line for line in shown.splitlines() if line.startswith("   ready"))
    assert ready.split()[1] == "23.0"


def test_the_end_is_a_generation_that_runs_and_a_config_that_is_waited_for() -> None:
    ready = PhaseFinished("ready", 38.0, "web", "address 10.0.0.5")
    shown = view.came_out(
        after(*GROWING, *SWITCHED, ready), [Outcome("web", "updated", "address 10.0.0.5, away 9 s")]
    )
    shown = view.ended(shown, 0, SAVED + 50)
    later = text(shown, now=SAVED + 5000)
    row = next(line for line in later.splitlines() if " web " in line)
    assert row.split()[:4] == ["●", "web", "g5", "running"]
    assert "50.0 s since the save" in later
    assert "waiting for config.scm to be saved  last save 12:03:04" in later
    assert later.splitlines()[0].endswith("1 ✓")


def test_an_error_stays_with_its_place_in_red_until_the_next_save() -> None:
    error = EvaluationError("unknown field 'memry'", hint="Do you mean memory?", location="c:35:4")
    shown = view.ended(view.failed(after(), error), 3, SAVED + 1)
    assert "c:35:4: error: unknown field 'memry'" in text(shown, now=SAVED + 5000)
    line = next(line for line in view_lines.lines(shown, 100, 30, SAVED) if "c:35:4" in line.plain)
    assert str(line.style) == "red"
    assert [line.plain[span.start : span.end] for span in line.spans] == [" c:35:4"]
    assert "c:35:4" not in text(view.began(shown, "12:04:00", SAVED + 60))


def test_the_last_change_is_still_shown_after_a_save_that_cannot_be_evaluated() -> None:
    shown = view.began(view.ended(after(*GROWING), 0, SAVED + 9), "12:04:00", SAVED + 60)
    shown = view.ended(view.failed(shown, EvaluationError("no")), 3, SAVED + 61)
    assert "by increment" in text(shown, now=SAVED + 70)
    assert "9.0 s since the save" in text(shown, now=SAVED + 70)


def test_a_machine_that_did_not_get_ready_is_marked_with_its_console() -> None:
    error = RolledBackError("'web' is not ready; rolled back", console=("panic",))
    shown = view.came_out(after(*GROWING), [Outcome("web", "failed", error=error)])
    shown = view.ended(shown, 6, SAVED + 9)
    row = next(line for line in text(shown).splitlines() if " web " in line)
    assert row.split()[0] == "✗"
    assert "| panic" in text(shown)


def test_a_machine_that_is_not_declared_any_more_goes() -> None:
    shown = view.ended(after(PLANNED), 0, SAVED + 1)
    shown = view.began(shown, "12:04:00", SAVED + 60)
    other = ChangePlanned("db", "create", target=1)
    shown = view.ended(view.happened(shown, other, SAVED + 61), 0, SAVED + 62)
    assert [row.name for row in shown.rows] == ["db"]


def busy() -> view.View:
    shown = after(
        *GROWING,
        *(
            event
            for number in range(12)
            for event in (
                msgspec.structs.replace(PLANNED, machine=f"a-machine-with-a-long-name-{number}"),
                Notice("something\twide 漢字 " * 9, f"m{number}", warning=True),
            )
        ),
        BuildOutput("\x1b[31mbuilding\x1b[0m /gnu/store/" + "x" * 200 + "\r"),
    )
    error = EvaluationError("word " * 60, hint="y" * 150, location="/some/where/config.scm:1:2")
    return view.failed(shown, error)


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
@pytest.mark.parametrize("height", [5, 10, 24, 60])
def test_nothing_is_wider_or_higher_than_the_terminal(width: int, height: int) -> None:
    for shown in (first(), busy(), view.ended(busy(), 3, SAVED + 9)):
        drawn = view_lines.lines(shown, width, height, SAVED + 9)
        assert len(drawn) == height
        assert max(cell_len(line.plain) for line in drawn) <= width
        assert not any("\x1b" in line.plain or "\n" in line.plain for line in drawn)
    # The end of it all is always there.
    assert drawn[-1].plain.startswith(" waiting for config"[: width - 1])


def test_what_does_not_fit_is_told() -> None:
    assert "more lines" in text(busy(), height=24)


def test_a_save_that_has_to_wait_is_acknowledged_until_it_is_taken_up() -> None:
    shown = view.saved_again(after(*GROWING, *SWITCHED), "12:03:30")
    assert "saved again 12:03:30: taken up after this" in text(shown).splitlines()[-1]
    assert "saved again" not in text(view.began(shown, "12:03:30", SAVED + 60))


def test_that_a_change_is_taken_back_is_shown_as_such() -> None:
    back = (PhaseStarted("stop", "web"), PhaseFinished("stop", 1.0, "web"))
    shown = after(*GROWING, *SWITCHED, *back, PhaseStarted("start", "web"))
    row = next(line for line in text(shown).splitlines() if " web " in line)
    assert "g5→g4" in row
    assert "rolling back: starting" in row
    error = RolledBackError("'web' is not ready; rolled back to generation 4, which runs again")
    shown = view.ended(view.came_out(shown, [Outcome("web", "failed", error=error)]), 6, SAVED + 99)
    row = next(line for line in text(shown).splitlines() if " web " in line)
    assert row.split()[:4] == ["✗", "web", "g4", "running"]


def test_an_error_that_a_notice_told_before_is_told_once() -> None:
    shown = view.happened(after(*GROWING), Notice("it is late", "web", warning=True), SAVED)
    shown = view.failed(shown, RolledBackError("it is late"))
    assert text(shown).count("it is late") == 1


def test_a_long_error_is_shown_whole_by_a_key_and_left_by_it() -> None:
    error = EvaluationError(" ".join(f"word{number}" for number in range(120)))
    shown = view.ended(view.failed(after(*GROWING), error), 3, SAVED + 1)
    assert "word119" not in text(shown, 80, 14)
    whole = view.pressed(shown, "e")
    assert "word119" in text(whole, 80, 24)
    assert "word119" not in text(view.pressed(whole, "e"), 80, 14)
    assert view.pressed(first(), "e").page is None


def test_the_keys_are_told() -> None:
    told = text(view.pressed(first(), "?"))
    assert all(f"   {key} " in told for key in "dpeq?")
    assert "paused" in text(view.pressed(view.ended(first(), 0, SAVED + 1), "p")).splitlines()[-1]


def test_a_large_terminal_shows_the_rounds_before() -> None:
    shown = view.ended(after(*GROWING), 0, SAVED + 9)
    for number in range(60):
        shown = view.began(shown, f"12:{number:02}:00", SAVED)
        shown = view.ended(view.failed(shown, EvaluationError(f"no {number}")), 3, SAVED + 1)
    tall = text(shown, 160, 50)
    assert "✗ no 59" in tall
    assert "12:58:00      1.0 s  ✗ no 58" in tall
    assert len(tall.splitlines()) == 50
    assert len(text(shown, 80, 12).splitlines()) == 12
