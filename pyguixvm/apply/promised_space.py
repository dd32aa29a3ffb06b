# SPDX-License-Identifier: GPL-3.0-or-later
"""The space of a file system that is free is free for one of those who are to fill it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from pyguixvm.errors import HypervisorError
from pyguixvm.interruption import pause, taken

_POLL_SECONDS = 0.2

_FileSystem = TypeVar("_FileSystem", bound=Hashable)


class PromisedSpace:
    """How many bytes of which file systems are promised to what is on its way there."""

    def __init__(self) -> None:
        """Nothing is promised."""
        self._lock = threading.Lock()
        self._promised: Counter[tuple[Hashable, Hashable]] = Counter()
        # How many of those who were promised something have ended.
        self._ended = 0

    @contextmanager
    def of(
        self,
        where: Hashable,
        needed: Mapping[_FileSystem, int],
        require: Callable[[_FileSystem, int], None],
        waits: Callable[[], None],
    ) -> Iterator[None]:
        """Have the bytes NEEDED of each file system at WHERE promised in the body.

        REQUIRE raises HypervisorError unless so many bytes of one are free.  Who finds too few
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
                self._promised.subtract({(where, each): size for each, size in needed.items()})
                self._ended += 1

    def _promise(
        self,
        where: Hashable,
        needed: Mapping[_FileSystem, int],
        require: Callable[[_FileSystem, int], None],
    ) -> int | None:
        """Promise what is NEEDED at WHERE, or return how many had ended when it was not there."""
        with taken(self._lock):
            promised = {each: self._promised[where, each] for each in needed}
            try:
                for each, size in needed.items():
                    require(each, size + promised[each])
            except HypervisorError:
                if not any(promised.values()):
                    raise
                return self._ended
            self._promised.update({(where, each): size for each, size in needed.items()})
            return None
