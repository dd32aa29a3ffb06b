# SPDX-License-Identifier: GPL-3.0-or-later
"""What a hypervisor says the same of itself all the time, asked for once in a run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from pyguixvm.hypervisor.at_once import begun
from pyguixvm.interruption import taken

_Answer = TypeVar("_Answer")


class Once(Generic[_Answer]):
    """An answer that may take its time; who will want to know lets it begin meanwhile.

    So are the capabilities of a host (https://libvirt.org/formatcaps.html): a libvirtd that is
    new starts every QEMU there is, one after the other, to find them out: seconds, and more
    where there is one for each architecture.
    """

    def __init__(self, ask: Callable[[], _Answer]) -> None:
        """ASK for nothing yet."""
        self._ask = ask
        self._lock = threading.Lock()
        self._begun: Callable[[], _Answer] | None = None
        self._known: tuple[_Answer] | None = None

    def begin(self) -> None:
        """Ask in the background, unless that was done; do not wait for anybody."""
        if not self._lock.acquire(blocking=False):
            return  # somebody asks at this moment
        try:
            if self._begun is None and self._known is None:
                self._begun = begun(self._ask, far=True)
        finally:
            self._lock.release()

    def known(self) -> _Answer | None:
        """Return the answer if it was asked for; ask nobody."""
        return self._known and self._known[0]

    def answer(self) -> _Answer:
        """Return the answer.  Raises what asking does, and asks again next time.

        Of several threads one waits for the hypervisor and the others for that one, as long as
        it takes; whoever of them is to end meanwhile does so.
        """
        with taken(self._lock):
            if self._known is None:
                answer, self._begun = self._begun, None
                self._known = ((answer or self._ask)(),)
            return self._known[0]
