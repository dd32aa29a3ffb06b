# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a signal ends the work; the signals are real."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pyguixvm.cli.safepoints import alike, heeded
from pyguixvm.events import Event, Notice
from pyguixvm.interruption import Interruption

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def interrupt(number: signal.Signals = signal.SIGINT) -> None:
    """Send this process a signal, which Python has handled when this returns."""
    os.kill(os.getpid(), number)


class Work:
    """Takes steps, and notes how far it came and what was told."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.seen: list[Event] = []

    @contextmanager
    def begun(self) -> Iterator[Interruption]:
        with heeded(self.seen.append) as interruption:
            yield interruption
            self.done.append("all")

    def told(self) -> list[str]:
        for thread in threading.enumerate():
            if thread is not threading.current_thread():
                thread.join(timeout=5)
        return [event.message for event in self.seen if isinstance(event, Notice)]


@pytest.mark.parametrize("number", SIGNALS)
def test_what_can_be_taken_up_ends_at_once(number: signal.Signals) -> None:
    work = Work()
    with pytest.raises(KeyboardInterrupt), work.begun():
        interrupt(number)
    assert work.done == []
    assert work.told() == []


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("however_often", [False, True])
def test_what_is_to_be_finished_is_finished_and_then_it_ends(
    number: signal.Signals, however_often: bool
) -> None:
    work = Work()
    with pytest.raises(KeyboardInterrupt), work.begun() as interruption:  # noqa: PT012
        with interruption.put_off(however_often=however_often):
            interrupt(number)
            work.done.append("switch")
        work.done.append("wait")
    assert work.done == ["switch"]
    (warning,) = work.told()
    assert "first" in warning
    assert ("^C again" in warning) != however_often


def test_the_second_time_it_ends_at_once() -> None:
    work = Work()
    with (  # noqa: PT012
        pytest.raises(KeyboardInterrupt),
        work.begun() as interruption,
        interruption.put_off(),
    ):
        interrupt()
        work.done.append("once")
        interrupt(signal.SIGTERM)
        work.done.append("twice")
    assert work.done == ["once"]


@pytest.mark.parametrize("outer", [False, True])
def test_where_a_guest_would_stay_away_it_never_ends(outer: bool) -> None:
    work = Work()
    with (  # noqa: PT012
        pytest.raises(KeyboardInterrupt),
        work.begun() as interruption,
        interruption.put_off(however_often=outer),
        interruption.put_off(however_often=True),
    ):
        for _ in range(3):
            interrupt()
        work.done.append("switch")
    assert work.done == ["switch"]


def test_what_fails_tells_why_and_then_it_ends() -> None:
    work = Work()
    with pytest.raises(KeyboardInterrupt), heeded(work.seen.append) as interruption:  # noqa: PT012
        with pytest.raises(ValueError, match="no"), interruption.put_off():  # noqa: PT012
            interrupt()
            raise ValueError("no")
        work.done.append("told")
    assert work.done == ["told"]


@pytest.mark.parametrize("number", SIGNALS)
def test_where_nothing_else_is_said_all_count_as_control_c(number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt), alike():
        interrupt(number)


def test_what_was_to_be_ignored_is_ignored() -> None:
    """A session that goes away does not end what nohup started."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with alike(), heeded(Work().seen.append):
            interrupt(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_afterwards_signals_do_what_they_did() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with alike(), Work().begun():
        pass
    assert [signal.getsignal(number) for number in SIGNALS] == before
