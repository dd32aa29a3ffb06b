# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests that do not wait for each other's answers: over a slow line they take as long as one."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TypeVar

from pyguixvm.hypervisor.time_limits import Request, ends

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")

# So many of one client libvirtd works at together, if it is not told otherwise
# (max_client_requests).
_REQUESTS = 5


def begun(ask: Callable[[], _Answer]) -> Callable[[], _Answer]:
    """Begin to ASK; return what waits for the answer, or raises what ASK raised."""
    request = Request(ask)
    threading.Thread(target=request.run, name="at once", daemon=True).start()

    def answer() -> _Answer:
        ends(request.ended, math.inf)
        return request.result()

    return answer


def each(ask: Callable[[_Item], _Answer], items: Iterable[_Item]) -> list[_Answer]:
    """Return what ASK returns for each of ITEMS, in their order.

    Raises what one of them raised; then, and when it is interrupted, no more are asked for.
    """
    left = deque(enumerate(items))
    answers: dict[int, _Answer] = {}
    count = len(left)

    def work() -> None:
        with suppress(IndexError):
            while True:
                number, item = left.popleft()
                try:
                    answers[number] = ask(item)
                except BaseException:
                    left.clear()
                    raise

    try:
        # One works here.
        waited = [begun(work) for _ in range(min(_REQUESTS, count) - 1)]
        work()
        for answer in waited:
            answer()
    finally:
        left.clear()
    return [answers[number] for number in range(count)]
