# SPDX-License-Identifier: GPL-3.0-or-later
"""libvirt's objects are kept here, and let go of where nobody waits for that.

The last one of a connection closes it, which asks the hypervisor, and waits in C for its answer,
without limit.  Python's collector lets go of what it finds in a circle, in whichever thread it
comes upon that: so nothing that may be in one refers to them but by a number.
"""

from __future__ import annotations

import itertools
import threading
from functools import partial
from queue import SimpleQueue
from typing import Any

from pyguixvm.hypervisor.time_limits import Threads

_kept: dict[int, Any] = {}
_numbers = itertools.count()
# The collector may put something there at any moment, even while its thread does.
_done: SimpleQueue[int] = SimpleQueue()


def keep(found: object) -> int:
    """Keep libvirt's object FOUND; return its number."""
    number = next(_numbers)
    _kept[number] = found
    return number


def kept(number: int) -> Any:
    """Return the object NUMBER."""
    return _kept[number]


def replace(number: int, found: object) -> None:
    """Keep FOUND as NUMBER, in place of what may be the last one of its connection."""
    former = keep(_kept[number])
    _kept[number] = found
    let_go(former, last=True)


def let_go(number: int, *, last: bool) -> None:
    """Keep the object NUMBER no longer, which may be the LAST one of its connection."""
    if last:
        _done.put(number)
    else:
        _kept.pop(number, None)


def _work() -> None:
    # What waits for a hypervisor has a thread of its own then.
    threads = Threads()
    while True:
        numbers = [_done.get()]
        while not _done.empty():
            numbers.append(_done.get())
        threads.run(partial(_forget, numbers))


def _forget(numbers: list[int]) -> None:
    for number in numbers:
        _kept.pop(number, None)


def start() -> None:
    """Have what is done with be let go of from now on; to be called once."""
    threading.Thread(target=_work, name="letting go", daemon=True).start()
