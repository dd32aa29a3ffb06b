# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests that are made at once: how many, in which order they answer, how they end."""

import threading

import pytest

from pyguixvm.errors import HypervisorError
from pyguixvm.hypervisor.at_once import begun, each
from pyguixvm.hypervisor.time_limits import Threads

MOST = 16


@pytest.mark.parametrize("count", [0, 1, 2, MOST, 40])
@pytest.mark.parametrize("far", [False, True])
def test_answers_come_in_the_order_of_what_was_asked(count, far):
    assert each(lambda item: 2 * item, range(count), far=far) == [2 * item for item in range(count)]


def test_some_are_asked_at_once():
    together = threading.Barrier(MOST, timeout=30)

    def ask(item):
        # Each waits for the others.
        together.wait()
        return item

    assert each(ask, range(2 * MOST), far=True) == list(range(2 * MOST))
    assert together.n_waiting == 0


def test_what_fails_is_raised_and_nothing_more_is_asked():
    asked = []

    def ask(item):
        asked.append(item)
        raise HypervisorError(f"{item}: no")

    with pytest.raises(HypervisorError, match="no"):
        each(ask, range(1000), far=True)
    assert len(asked) <= MOST


def test_who_waits_is_not_kept_by_what_hangs_when_another_fails():
    hanging = threading.Event()

    def ask(item):
        if item == 3:
            raise HypervisorError("no")
        hanging.wait(60)

    with pytest.raises(HypervisorError, match="no"):
        each(ask, range(100), far=True)
    assert not hanging.is_set()
    hanging.set()


def test_what_was_begun_goes_on_until_somebody_wants_the_answer():
    asked, go_on = threading.Event(), threading.Event()

    def ask():
        asked.set()
        assert go_on.wait(30)
        return "answer"

    answer = begun(ask, far=True)
    assert asked.wait(30)
    go_on.set()
    assert answer() == "answer"


def test_what_was_begun_fails_where_somebody_wants_the_answer():
    def ask():
        raise HypervisorError("no")

    answer = begun(ask, far=True)
    with pytest.raises(HypervisorError, match="no"):
        answer()


def test_nothing_is_asked_over_a_connection_that_was_closed():
    """Whoever still is at work then would ask what libvirt has freed."""
    threads = Threads()
    assert threads.counted(lambda: 1)() == 1
    assert threads.end()
    with pytest.raises(HypervisorError, match="closed"):
        threads.counted(lambda: pytest.fail("it was asked"))
