# SPDX-License-Identifier: GPL-3.0-or-later
"""What is free in a pool is promised to one of those that go there side by side."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from functools import partial

import pytest

from pyguixvm.apply.promised_space import PromisedSpace
from pyguixvm.errors import HypervisorError


class Pool:
    """A pool with so many bytes FREE."""

    def __init__(self, free: int) -> None:
        self.free = free

    def require(self, _name: str, size: int) -> None:
        if size > self.free:
            raise HypervisorError(f"{self.free} of {size} are free")


def never() -> None:
    raise AssertionError("there is enough, or nobody to wait for")


def test_who_would_fill_it_with_others_waits_and_goes_when_there_is_enough() -> None:
    space, pool = PromisedSpace(), Pool(50)
    went, waits = threading.Event(), threading.Event()
    of = partial(space.of, "host", {"default": 20}, pool.require, waits.set)

    def third() -> None:
        with of():
            went.set()

    with ExitStack() as second:
        with of():
            second.enter_context(of())
            assert not waits.is_set()
            thread = threading.Thread(target=third, daemon=True)
            thread.start()
            assert waits.wait(60)
            # It may not be there yet, and is not to be.
            assert not went.wait(0.5)
            pool.free -= 10
        # The first one took less than it might have.
        assert went.wait(60)
    thread.join(60)


def test_who_finds_too_little_when_nobody_else_is_on_the_way_is_refused() -> None:
    space, pool = PromisedSpace(), Pool(50)
    refused, waits = threading.Event(), threading.Event()

    def second() -> None:
        try:
            with space.of("host", {"default": 40}, pool.require, waits.set):
                pass
        except HypervisorError:
            refused.set()

    with space.of("host", {"default": 20}, pool.require, never):
        thread = threading.Thread(target=second, daemon=True)
        thread.start()
        assert waits.wait(60)
        assert not refused.wait(0.5)
        pool.free -= 20
    assert refused.wait(60)
    thread.join(60)
    with pytest.raises(HypervisorError), space.of("host", {"default": 31}, pool.require, never):
        pass
    # Nothing is promised any more.
    with space.of("host", {"default": 30}, pool.require, never):
        pass


def test_another_pool_and_another_host_are_none_of_its_business() -> None:
    space, pool = PromisedSpace(), Pool(20)
    with (
        space.of("host", {"default": 20}, pool.require, never),
        space.of("host", {"fast": 20}, pool.require, never),
        space.of("other", {"default": 20}, pool.require, never),
    ):
        pass
