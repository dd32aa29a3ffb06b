# SPDX-License-Identifier: GPL-3.0-or-later
"""What watch prints in a pipe."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from pyguixvm.apply.outcome import Outcome
from pyguixvm.cli.build_log import BuildLog
from pyguixvm.cli.options import Options
from pyguixvm.cli.ui.lines import KINDS
from pyguixvm.cli.ui.progress import LiveProgress, PlainProgress
from pyguixvm.cli.ui.rounds import Ended, JsonRounds
from pyguixvm.errors import InterruptedRequestError
from pyguixvm.events import (
    BuildOutput,
    ChangePlanned,
    GuestOutput,
    MachineEnded,
    Phase,
    PhaseFinished,
    PhaseProgress,
    PhaseStarted,
    Waiting,
)
from pyguixvm.model.difference import Difference

PLANNED = ChangePlanned(
    machine="web",
    effect="replace",
    differences=(Difference("domain.memory", 1, 2, "live"),),
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
    rounds.begin(0.0)
    rounds.emit(PLANNED)
    rounds.emit(BuildOutput("one of thousands"))
    rounds.outcomes([Outcome("web", "updated")])
    rounds.waiting(Ended(Path("config.scm"), 0, 1.0, "1.0 s"))
    rounds.saved(Path("config.scm"), after_this=False)
    rounds.begin(1.0)
    rounds.saved(Path("config.scm"), after_this=True)
    rounds.error(InterruptedRequestError("interrupted"))
    printed = capsys.readouterr().out.splitlines()
    kinds = {each.__struct_config__.tag: each for each in KINDS}
    for line in printed:
        msgspec.json.decode(line, type=kinds[json.loads(line)["type"]])
    found = [json.loads(line) for line in printed]
    times = [line.pop("time") for line in found]
    assert times == sorted(times)
    assert all(datetime.fromisoformat(each).tzinfo == UTC for each in times)
    assert {line.pop("schema") for line in found} == {2}
    assert [line.pop("round") for line in found] == [1, 1, 1, 1, 1, 2, 2]
    planned, deployed, ended, note, saved, later, failed = found
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
        "system-changes": [],
    }
    assert (deployed["type"], deployed["machines"][0]["outcome"]) == ("deployed", "updated")
    assert note == {"type": "note", "message": "1.0 s; waiting for config.scm to be saved"}
    assert ended == {"type": "round-ended", "status": 0, "seconds": 1.0}
    assert saved == {"type": "saved", "config": "config.scm", "after-this": False}
    assert later == {"type": "saved", "config": "config.scm", "after-this": True}
    assert (failed["type"], failed["error"]["status"]) == ("failed", 130)


@pytest.fixture
def log(tmp_path: Path) -> BuildLog:
    return BuildLog(tmp_path / "log")


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (PLANNED, "web: replace for domain.memory, full: asked for\n"),
        (ChangePlanned("web", "create", strategy="full", reason="new"), "web: create, full: new\n"),
        (ChangePlanned("web", "none"), ""),
        (ChangePlanned("web", "replace", refusal="it is protected"), ""),
    ],
)
def test_a_plan_is_one_line_unless_there_is_nothing_to_do(
    event: ChangePlanned, line: str, log: BuildLog
) -> None:
    stream = io.StringIO()
    PlainProgress(stream, 0, log).show(event)
    assert stream.getvalue() == line


def test_what_is_waited_for_is_told_once_not_with_each_line_of_the_console(log: BuildLog) -> None:
    stream = io.StringIO()
    progress = PlainProgress(stream, 0, log)
    progress.show(Waiting("web", "an address", 119.6, "GRUB"))
    progress.show(Waiting("web", "an address", 100, "Linux"))
    assert stream.getvalue() == "web: waiting for an address, at most 120 s more\n"


def test_what_a_guest_says_while_it_is_changed_is_told_to_who_wants_it(log: BuildLog) -> None:
    for verbosity, said in ((0, ""), (1, "web: making /etc\n"), (-1, "")):
        stream = io.StringIO()
        PlainProgress(stream, verbosity, log).show(GuestOutput("web", "making \x1b[1m/etc"))
        assert stream.getvalue() == said


@pytest.mark.parametrize(
    ("phase", "words"),
    [
        ("stop", "shutting down"),
        ("reboot", "rebooting"),
        ("update", "changing the guest"),
        ("activate", "switching to the new system"),
    ],
)
def test_how_long_a_guest_may_take_is_told_before(phase: Phase, words: str, log: BuildLog) -> None:
    stream = io.StringIO()
    progress = PlainProgress(stream, 0, log)
    progress.show(PhaseStarted("start", "web"))
    progress.show(PhaseStarted(phase, "web", "within 120 s"))
    assert stream.getvalue() == f"web: {words} within 120 s\n"


def written(progress: PlainProgress, stream: io.StringIO) -> str:
    """Return what PROGRESS wrote to STREAM of a build of two lines."""
    progress.show(BuildOutput("building a"))
    progress.show(BuildOutput("building b"))
    return stream.getvalue()


def test_what_guix_writes_goes_to_a_file_that_is_told(log: BuildLog) -> None:
    stream = io.StringIO()
    said = written(PlainProgress(stream, 0, log), stream)
    assert said == f"building; what Guix writes goes to {log.path}\n"
    assert log.path is not None
    assert log.path.read_text() == "building a\nbuilding b\n"


@pytest.mark.parametrize(("verbosity", "said"), [(1, "building a\nbuilding b\n"), (-1, "")])
def test_verbose_shows_what_guix_writes_and_quiet_drops_it(
    verbosity: int, said: str, log: BuildLog
) -> None:
    stream = io.StringIO()
    assert written(PlainProgress(stream, verbosity, log), stream) == said
    assert log.path is None


def test_what_guix_writes_is_shown_where_no_file_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    stream = io.StringIO()
    log = BuildLog(tmp_path / "file" / "log")
    assert written(PlainProgress(stream, 0, log), stream) == "building a\nbuilding b\n"


def test_the_latest_ten_files_are_kept(tmp_path: Path) -> None:
    older = [tmp_path / f"build-20010101T0000{second:02}-1.log" for second in range(12)]
    for file in older:
        file.touch()
    log = BuildLog(tmp_path)
    log.write("building")
    assert log.path is not None
    assert sorted(tmp_path.iterdir()) == [*older[3:], log.path]


class Terminal(io.StringIO):
    """A terminal that keeps all that it was told."""

    def isatty(self) -> bool:
        return True


def test_bytes_are_told_with_their_pace_and_the_time_that_is_left() -> None:
    now = iter([0.0, 1.0, 10.0, 100.0])
    live = LiveProgress(Terminal(), 0, lambda: next(now))
    live.show(PhaseStarted("transfer", "web"))
    mib = 1024**2
    said = []
    # What was there before, of an upload that is gone on with, is no pace.
    for done in (500, 502, 520, 700):
        live.show(PhaseProgress("transfer", done * mib, 900 * mib, "web"))
        said.append(live.going_on()[0].partition("volume: ")[2])
    assert said == [
        "500M of 900M",
        "502M of 900M",
        "520M of 900M, 2M/s, 3 min left",
        "700M of 900M, 2M/s, 100 s left",
    ]
    live.show(PhaseStarted("transfer", "web"))
    live.close()


def test_of_several_machines_each_has_a_line_while_something_goes_on_with_it() -> None:
    terminal = Terminal()
    live = LiveProgress(terminal, 0)
    for name in ("web", "db", "mail"):
        live.show(ChangePlanned(name, "create"))
    live.show(PhaseStarted("grow", "db"))
    live.show(PhaseStarted("ready", "web"))
    live.show(PhaseStarted("transfer", "mail"))
    live.show(PhaseProgress("transfer", 1024, 2048, "mail"))
    assert live.going_on() == [
        "web: waiting for the guest",
        "db: growing the root volume",
        "mail: sending the volume: 1K of 2K",
    ]
    live.show(MachineEnded("db", "it is broken"))
    live.show(PhaseFinished("ready", 1.0, "web"))
    live.show(MachineEnded("web"))
    assert live.going_on() == ["mail: sending the volume: 1K of 2K"]
    for number in range(20):
        live.show(PhaseStarted("start", f"more{number:02}"))
    assert live.going_on()[-2:] == ["more05: starting", "… and 14 more"]
    live.close()
    said = terminal.getvalue()
    assert "db: it is broken" in said
    assert said.count("web: ready") == 1


def test_in_a_pipe_a_machine_that_failed_is_told_while_the_others_go_on(
    log: BuildLog,
) -> None:
    stream = io.StringIO()
    plain = PlainProgress(stream, 0, log)
    plain.show(MachineEnded("web"))
    plain.show(MachineEnded("db", "it is broken"))
    assert stream.getvalue() == "db: failed: it is broken\n"
