# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests that do not wait for each other's answers: over a slow line they take as long as one."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable
from functools import cache
from typing import TypeVar

from pyguixvm.hypervisor.time_limits import Request, ends
from pyguixvm.interruption import LOOK_SECONDS, end_here_if_asked

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")

# Libvirtd takes up few of a connection's requests at once; the others are on their way.
_MOST = 16


def begun(ask: Callable[[], _Answer], *, far: bool) -> Callable[[], _Answer]:
    """Begin to ASK; return what waits for the answer, or raises what ASK raised.

    Unless that is FAR away: a thread takes longer than what it would wait for.
    """
    if not far:
        return cache(ask)
    request = Request(ask)
    threading.Thread(target=request.run, name="at once", daemon=True).start()

    def answer() -> _Answer:
        ends(request.ended, math.inf)
        return request.result()

    return answer


def each(ask: Callable[[_Item], _Answer], items: Iterable[_Item], *, far: bool) -> list[_Answer]:
    """Return what ASK returns for each of ITEMS, in their order; some at once if that is FAR away.

    Raises what one of them raised first.  Nobody waits for what goes on then, or when this is
    interrupted, and no more are asked for: it changes nothing.
    """
    wanted = list(items)
    if not far:
        return [ask(item) for item in wanted]
    answers: dict[int, _Answer] = {}
    errors: list[BaseException] = []
    waiting = iter(enumerate(wanted))
    taking, ended = threading.Lock(), threading.Semaphore(0)

    def take() -> tuple[int, _Item] | None:
        with taking:
            return None if errors else next(waiting, None)

    def work() -> None:
        try:
            while (item := take()) is not None:
                answers[item[0]] = ask(item[1])
        except BaseException as error:  # noqa: BLE001 -- raised where it is waited for
            errors.append(error)
        ended.release()

    workers = min(_MOST, len(wanted))
    for _ in range(workers):
        threading.Thread(target=work, name="at once", daemon=True).start()
    for _ in range(workers):
        while not errors and not ended.acquire(timeout=LOOK_SECONDS):
            end_here_if_asked()
    if errors:
        raise errors[0]
    return [answers[number] for number in range(len(wanted))]
