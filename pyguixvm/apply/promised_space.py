# SPDX-License-Identifier: GPL-3.0-or-later
"""The space of a pool that is free is free for one of those who are to fill it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager

from pyguixvm.errors import HypervisorError
from pyguixvm.interruption import pause, taken

_POLL_SECONDS = 0.2


class PromisedSpace:
    """How many bytes of which pools are promised to what is on its way there."""

    def __init__(self) -> None:
        """Nothing is promised."""
        self._lock = threading.Lock()
        self._promised: Counter[tuple[Hashable, str]] = Counter()
        # How many of those who were promised something have ended.
        self._ended = 0

    @contextmanager
    def of(
        self,
        where: Hashable,
        needed: Mapping[str, int],
        require: Callable[[str, int], None],
        waits: Callable[[], None],
    ) -> Iterator[None]:
        """Have the bytes NEEDED of each pool at WHERE promised in the body.

        REQUIRE raises HypervisorError unless so many bytes of a pool are free.  Who finds too few
        waits, and calls WAITS, while others are promised some: how much of that they have written,
        nobody knows.  Raises what REQUIRE does of what is free when they have ended.
        """
        told = False
        while (ended := self._promise(where, needed, require)) is not None:
            if not told:
                waits()
            told = True
            while self._ended == ended:
                pause(_POLL_SECONDS)
        try:
            yield
        finally:
            with self._lock:
                self._promised.subtract({(where, pool): size for pool, size in needed.items()})
                self._ended += 1

    def _promise(
        self, where: Hashable, needed: Mapping[str, int], require: Callable[[str, int], None]
    ) -> int | None:
        """Promise what is NEEDED at WHERE, or return how many had ended when it was not there."""
        with taken(self._lock):
            promised = {pool: self._promised[where, pool] for pool in needed}
            try:
                for pool, size in needed.items():
                    require(pool, size + promised[pool])
            except HypervisorError:
                if not any(promised.values()):
                    raise
                return self._ended
            self._promised.update({(where, pool): size for pool, size in needed.items()})
            return None
