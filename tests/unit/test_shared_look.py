# SPDX-License-Identifier: GPL-3.0-or-later
"""Of those who look again at the same time, one looks for all, and never before they asked."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pyguixvm.commands.shared_look import SharedLook
from pyguixvm.interruption import Interruption


class Place:
    """What is looked at: each look says as how many-th it began, and waits until it may end."""

    def __init__(self) -> None:
        self.begun = 0
        self.looking = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)

    def look(self) -> int:
        self.begun += 1
        mine = self.begun
        self.looking.release()
        assert self.may_end.acquire(timeout=10)
        return mine


def test_who_asks_while_somebody_looks_shares_the_next_look() -> None:
    place = Place()
    shared = SharedLook(place.look)
    with ThreadPoolExecutor() as asking:
        first = asking.submit(shared.now)
        assert place.looking.acquire(timeout=10)
        late = [asking.submit(shared.now) for _ in range(3)]
        place.may_end.release()
        assert first.result(10) == 1
        # That look began before they asked.
        assert place.looking.acquire(timeout=10)
        assert not any(each.done() for each in late)
        place.may_end.release()
        assert [each.result(10) for each in late] == [2, 2, 2]
    assert place.begun == 2


def test_who_asks_when_nobody_looks_looks_anew() -> None:
    place = Place()
    place.may_end.release(2)
    shared = SharedLook(place.look)
    assert [shared.now(), shared.now()] == [1, 2]


def test_a_look_that_fails_fails_for_all_who_share_it() -> None:
    def fail() -> int:
        place.look()
        raise ValueError("lost")

    place = Place()
    shared = SharedLook(fail)
    with ThreadPoolExecutor() as asking:
        first = asking.submit(shared.now)
        assert place.looking.acquire(timeout=10)
        late = [asking.submit(shared.now) for _ in range(2)]
        place.may_end.release(2)
        for each in (first, *late):
            with pytest.raises(ValueError, match="lost"):
                each.result(10)
    assert place.begun == 2


def test_a_look_that_is_broken_off_is_done_by_another() -> None:
    place = Place()

    def look() -> int:
        mine = place.look()
        if mine == 1:
            raise KeyboardInterrupt
        return mine

    shared = SharedLook(look)
    with ThreadPoolExecutor() as asking:
        first = asking.submit(shared.now)
        assert place.looking.acquire(timeout=10)
        late = asking.submit(shared.now)
        place.may_end.release(2)
        with pytest.raises(KeyboardInterrupt):
            first.result(10)
        assert late.result(10) == 2


def test_who_waits_for_anothers_look_can_be_interrupted() -> None:
    place, interruption = Place(), Interruption()
    shared = SharedLook(place.look)

    def ask() -> int:
        with interruption.followed():
            return shared.now()

    with ThreadPoolExecutor() as asking:
        first = asking.submit(shared.now)
        assert place.looking.acquire(timeout=10)
        late = asking.submit(ask)
        with interruption.left_to_others():
            interruption.ask()
        with pytest.raises(KeyboardInterrupt):
            late.result(10)
        place.may_end.release()
        assert first.result(10) == 1
