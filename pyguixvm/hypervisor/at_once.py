# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests over a long line go out together: each alone would wait for the one before."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from pyguixvm.interruption import LOOK_SECONDS, end_here_if_asked

_Item = TypeVar("_Item")
_Found = TypeVar("_Found")

# Libvirtd takes up few of a connection's requests at once; the others are on their way.
_MOST = 16


def at_once(work: Callable[[_Item], _Found], items: Sequence[_Item]) -> list[_Found]:
    """Return what WORK makes of each of ITEMS, some at a time, or raise what it raises first.

    Nobody waits for what goes on then, or who interrupts this: it changes nothing.
    """
    found: dict[int, _Found] = {}
    errors: list[BaseException] = []
    waiting = iter(enumerate(items))
    taking, ended = threading.Lock(), threading.Semaphore(0)

    def take() -> tuple[int, _Item] | None:
        with taking:
            return None if errors else next(waiting, None)

    def run() -> None:
        try:
            while (item := take()) is not None:
                found[item[0]] = work(item[1])
        except BaseException as error:  # noqa: BLE001 -- raised where it is waited for
            errors.append(error)
        ended.release()

    threads = min(_MOST, len(items))
    for _ in range(threads):
        threading.Thread(target=run, name="look", daemon=True).start()
    for _ in range(threads):
        while not ended.acquire(timeout=LOOK_SECONDS):
            end_here_if_asked()
            if errors:
                break
    if errors:
        raise errors[0]
    return [found[number] for number in range(len(items))]
