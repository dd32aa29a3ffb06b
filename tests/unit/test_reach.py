# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions that are asked at once: each one's silence is its own."""

from __future__ import annotations

import threading

import pytest

from pyguixvm.commands import reach
from pyguixvm.commands.reach import Places, _each
from pyguixvm.errors import HypervisorError, PyguixvmError


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "_GRACE", 0.2)


def refuse() -> str:
    raise HypervisorError("refused")


def test_one_that_is_silent_is_not_waited_for_and_is_not_wanted_any_more() -> None:
    answer, unwanted = threading.Event(), threading.Event()

    def late() -> str:
        assert answer.wait(30)
        return "late"

    def let_go(found: str) -> None:
        assert found == "late"
        unwanted.set()

    first, silent, last = _each([lambda: "first", late, refuse], (), let_go)
    assert first == "first"
    assert isinstance(silent, PyguixvmError)
    assert "after the others did" in silent.message
    assert isinstance(last, PyguixvmError)
    assert last.message == "refused"
    answer.set()
    assert unwanted.wait(30)


@pytest.mark.parametrize("others", [["asked"], []])
def test_where_a_person_types_and_where_nobody_answered_there_is_time(others: list[str]) -> None:
    slow = threading.Timer(1, lambda: None)
    slow.start()

    def answer() -> str:
        slow.join()
        return "slow"

    questions = [answer, *[(lambda: "asked") for _ in others], refuse]
    found = _each(questions, {0} if others else ())
    assert found[0] == "slow"


def test_of_many_some_are_asked_at_once_and_those_that_hang_hold_nobody_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reach, "_AT_ONCE", 3)
    # Whatever else this machine has to do.
    monkeypatch.setattr(reach, "_LOOK", 60.0)
    counting, going_on, most = threading.Lock(), 0, 0
    released = threading.Event()

    def counted() -> str:
        nonlocal going_on, most
        with counting:
            going_on += 1
            most = max(most, going_on)
        with counting:
            going_on -= 1
        return "asked"

    def hanging() -> str:
        assert released.wait(30)
        return "late"

    assert _each([counted] * 50) == ["asked"] * 50
    assert most <= 3
    monkeypatch.setattr(reach, "_LOOK", 0.1)
    found = _each([*[hanging] * 7, *[counted] * 20])
    assert [each for each in found if each == "asked"] == ["asked"] * 20
    released.set()


def test_more_are_asked_as_long_as_the_processor_waits_for_answers() -> None:
    now = spent = 0.0
    places = Places(lambda: now, lambda: spent)
    few = places.there_are()
    now = 0.05
    assert places.there_are() == few
    now, spent = 1.0, 0.9
    assert places.there_are() == few
    now, spent = 2.0, 1.1
    more = places.there_are()
    assert more > few
    now, spent = 3.0, 2.0
    assert places.there_are() == more
