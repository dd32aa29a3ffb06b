# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a signal ends the work; the signals are real."""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
from waiting import eventually

from pyguixvm.apply import executor
from pyguixvm.apply.outcome import Outcome
from pyguixvm.cli.safepoints import alike, heeded
from pyguixvm.events import Event, MachineEnded, Notice
from pyguixvm.interruption import Interruption, Wait, pause
from pyguixvm.process import run

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# What the main thread may wait for; nothing of it comes.
WAITS: dict[str, Callable[[], object]] = {
    "an event": threading.Event().wait,
    "a queue": queue.SimpleQueue[None]().get,
    "a pipe": lambda: os.read(os.pipe()[0], 1),
    "a program": lambda: run(["sleep", "1000"]),
    "a thread": lambda: for_ever().join(),
    "a while": lambda: pause(1000),
}


def for_ever() -> threading.Thread:
    """Return a thread that never ends by itself."""
    thread = threading.Thread(target=threading.Event().wait, daemon=True)
    thread.start()
    return thread


def interrupt(number: signal.Signals = signal.SIGINT) -> None:
    """Send this process a signal, which Python has handled when this returns."""
    os.kill(os.getpid(), number)


class Work:
    """Takes steps, and notes how far it came and what was told."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.seen: list[Event] = []
        self.others = set(threading.enumerate())

    @contextmanager
    def begun(self) -> Iterator[Interruption]:
        with heeded(self.seen.append) as interruption:
            yield interruption
            self.done.append("all")

    def told(self) -> list[str]:
        for thread in set(threading.enumerate()) - self.others:
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


@contextmanager
def stopping(work: Work, *, agreed: bool, seen: bool = True) -> Iterator[Wait]:
    """Wait for a guest that shuts down, in the middle of what must be finished."""
    with (
        heeded(work.seen.append, seen=seen) as interruption,
        interruption.put_off(however_often=True),
    ):
        with interruption.skipped_on_request(agreed=agreed) as wait:
            yield wait
        work.done.append("started")
    work.done.append("all")


def test_who_has_agreed_to_lose_a_guests_memory_skips_its_wait_and_nothing_else() -> None:
    work = Work()
    with stopping(work, agreed=True) as wait:
        interrupt()
        assert wait.skipped
    assert work.done == ["started", "all"]
    (said,) = work.told()
    assert "powered off" in said


def test_the_second_time_it_ends_after_that() -> None:
    work = Work()
    with pytest.raises(KeyboardInterrupt), stopping(work, agreed=True):  # noqa: PT012
        interrupt()
        interrupt()
    assert work.done == ["started"]


def test_who_has_not_agreed_is_told_first_what_they_lose() -> None:
    work = Work()
    with pytest.raises(KeyboardInterrupt), stopping(work, agreed=False) as wait:  # noqa: PT012
        interrupt()
        # Nobody has read that yet.
        interrupt()
        assert not wait.skipped
        until = time.monotonic() + 10
        while not wait.skipped:
            assert time.monotonic() < until
            time.sleep(0.05)
            interrupt()
    assert work.done == ["started"]
    assert "^C again: it is powered off now" in work.told()[0]


@pytest.mark.parametrize(
    ("number", "seen"), [(signal.SIGTERM, True), (signal.SIGHUP, True), (signal.SIGINT, False)]
)
@pytest.mark.parametrize("agreed", [True, False])
def test_nobody_but_a_person_who_sees_what_is_told_skips_it(
    number: signal.Signals, seen: bool, agreed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyguixvm.interruption._READING_SECONDS", 0)
    work = Work()
    with (  # noqa: PT012
        pytest.raises(KeyboardInterrupt),
        stopping(work, agreed=agreed, seen=seen) as wait,
    ):
        interrupt(number)
        interrupt(number)
        assert not wait.skipped
    assert work.done == ["started"]


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


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("wait", sorted(WAITS))
def test_a_signal_that_another_thread_was_handed_ends_any_wait(
    number: signal.Signals, wait: str
) -> None:
    """As one does that comes just before the wait: the thread that waits is not disturbed."""

    def interrupt_here() -> None:
        time.sleep(0.1)
        signal.pthread_kill(threading.get_ident(), number)

    late = threading.Timer(20, os.kill, (os.getpid(), signal.SIGINT))
    late.start()
    begun = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt), alike():  # noqa: PT012
            threading.Thread(target=interrupt_here).start()
            WAITS[wait]()
    finally:
        late.cancel()
    assert time.monotonic() - begun < 10


def test_nothing_is_left_of_what_disturbs_waits() -> None:
    with pytest.raises(KeyboardInterrupt), alike():
        interrupt()
    eventually(lambda: not any(each.name == "signals" for each in threading.enumerate()))
    assert signal.set_wakeup_fd(-1) == -1


def test_what_was_to_be_ignored_is_ignored() -> None:
    """A session that goes away does not end what nohup started."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with alike(), heeded(Work().seen.append):
            interrupt(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_afterwards_signals_do_what_they_did() -> None:
    before = [signal.getsignal(number) for number in signal.valid_signals()]
    with alike(), Work().begun():
        pass
    assert [signal.getsignal(number) for number in signal.valid_signals()] == before
    assert signal.set_wakeup_fd(-1) == -1


# --- threads ----------------------------------------------------------------


def side_by_side(*works: Callable[[], str]) -> list[str | None]:
    """Do WORKS as machines are changed; return what became of each, None if it was ended."""
    done: list[str | None] = [None] * len(works)

    def work(index: int) -> Outcome:
        done[index] = works[index]()
        return Outcome(str(index), "updated")

    seen: list[Event] = []
    with suppress(KeyboardInterrupt), heeded(seen.append) as interruption:
        global at_work  # noqa: PLW0603 -- what the works below ask
        at_work = interruption
        executor.side_by_side(
            [executor.Task(str(i), partial(work, i)) for i in range(len(works))],
            interruption,
            seen.append,
        )
        pytest.fail("nobody interrupted it")
    return done


at_work = Interruption()


def pausing() -> str:
    """Wait for a minute, as for a guest."""
    pause(60)
    return "waited"


def test_a_signal_ends_all_that_can_be_taken_up_and_nothing_else() -> None:
    finished = []

    def finishing() -> str:
        with at_work.put_off(however_often=True):
            for number in SIGNALS:
                interrupt(number)
                pause(0.2)
            finished.append("switch")
        return "went on"

    assert side_by_side(pausing, finishing, pausing) == [None, None, None]
    assert finished == ["switch"]


def test_the_second_signal_ends_what_the_first_one_left() -> None:
    begun, ended = threading.Event(), threading.Event()

    def patient() -> str:
        with at_work.put_off():
            begun.set()
            try:
                return pausing()
            finally:
                ended.set()

    def asking() -> str:
        with at_work.put_off(however_often=True):
            assert begun.wait(10)
            interrupt()
            assert not ended.wait(0.5)
            interrupt()
            assert ended.wait(10)
        return "went on"

    assert side_by_side(patient, asking) == [None, None]


def test_a_program_that_a_thread_waits_for_is_ended(tmp_path: Path) -> None:
    child = tmp_path / "child"

    def running() -> str:
        run(["sh", "-c", f"echo $$ > {child}; exec sleep 60"])
        return "ran"

    def asking() -> str:
        while not child.exists() or not child.read_text().strip():
            pause(0.05)
        interrupt()
        return pausing()

    begun = time.monotonic()
    assert side_by_side(running, asking) == [None, None]
    assert time.monotonic() - begun < 30
    with pytest.raises(ProcessLookupError):
        os.kill(int(child.read_text()), 0)


def test_an_error_of_one_that_ended_is_told_though_somebody_interrupts() -> None:
    def failing() -> Outcome:
        raise ValueError("odd")

    def asking() -> Outcome:
        interrupt()
        pause(60)
        return Outcome("late", "updated")

    seen: list[Event] = []
    with pytest.raises(KeyboardInterrupt), heeded(seen.append) as interruption:  # noqa: PT012
        tasks = [executor.Task("web", failing), executor.Task("late", asking)]
        executor.side_by_side(tasks, interruption, seen.append)
    ended, notice = seen
    assert isinstance(ended, MachineEnded)
    assert isinstance(notice, Notice)
    assert (ended.machine, notice.machine) == ("web", "web")
    assert "odd" in notice.message
