# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests that end: libvirt's own wait in C, without limit, and hear no Control-C."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from pyguixvm.errors import HypervisorError

_Answer = TypeVar("_Answer")
_HINT = "see whether it answers at all: 'virsh -c URI list'; libvirtd may hang there"


class SilenceError(HypervisorError):
    """A request was not answered in time; it may be carried out all the same."""


def within(
    seconds: float,
    doing: str,
    call: Callable[[], _Answer],
    *,
    unwanted: Callable[[_Answer], object] | None = None,
) -> _Answer:
    """Return what CALL returns, or raise what it raises; it is about DOING something.

    Raises SilenceError after SECONDS, and KeyboardInterrupt at once: then CALL goes on in
    a thread of its own for as long as it likes, and what it returns at last is for UNWANTED.
    """
    request = _Request(call, unwanted)
    try:
        request.begin()
        if not request.ended.wait(seconds):
            raise SilenceError(f"cannot {doing}: no answer within {seconds:g} s", hint=_HINT)
    finally:
        request.leave()
    return request.result()


@dataclass
class _Request(Generic[_Answer]):
    """CALL in a thread of its own; if nobody waits any more, its answer is for UNWANTED."""

    call: Callable[[], _Answer]
    unwanted: Callable[[_Answer], object] | None = None
    ended: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _left: bool = False
    _answers: list[_Answer] = field(default_factory=list)
    _error: BaseException | None = None

    def begin(self) -> None:
        """Start the call."""
        threading.Thread(target=self._run, name="request", daemon=True).start()

    def result(self) -> _Answer:
        """Return what the call, which has ended, returned, or raise what it raised."""
        if self._error is not None:
            raise self._error
        return self._answers[0]

    def leave(self) -> None:
        """Wait no longer."""
        with self._lock:
            self._left = not self.ended.is_set()

    def _run(self) -> None:
        try:
            self._answers.append(self.call())
        except BaseException as error:  # noqa: BLE001 -- raised where it is waited for
            self._error = error
        with self._lock:
            self.ended.set()
            left = self._left
        if left and self._answers and self.unwanted is not None:
            self.unwanted(self._answers[0])
