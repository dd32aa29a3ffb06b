# SPDX-License-Identifier: GPL-3.0-or-later
"""The line to a hypervisor: one connection after another, whenever one was cut."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

import libvirt

from pyguixvm.errors import HypervisorError
from pyguixvm.hypervisor.let_go import keep, kept, let_go
from pyguixvm.hypervisor.request_kinds import only_looks, seconds_for
from pyguixvm.hypervisor.same_host import AnotherHostError
from pyguixvm.hypervisor.time_limits import SilenceError, Threads, within
from pyguixvm.interruption import pause, taken

# Between two tries to connect again (seconds).
_POLL_SECONDS = 0.5
# What was begun is brought to its end if that takes no longer: it is known to be done.
_GRACE = 1.0
_HINT = "run the command again when the hypervisor can be reached"


class LineLostError(SilenceError):
    """The line was cut, and is not there again in time: nothing was asked."""

    def __init__(self, doing: str, reason: str, seconds: float, hint: str | None) -> None:
        """Say that when DOING something, and for which REASON it is not, within SECONDS."""
        super().__init__(doing, seconds)
        self.reason = reason
        self.message = f"cannot {doing}: the connection was lost, and there is no other: {reason}"
        self.args = (self.message,)
        self.hint = hint

    def when(self, doing: str) -> LineLostError:
        """Return this error as one that came up when DOING something."""
        return LineLostError(doing, self.reason, self.seconds, self.hint)


class _Opened:
    """One of a line's connections, with how many there were before."""

    def __init__(self, connection: libvirt.virConnect, era: int) -> None:
        """Keep CONNECTION; a request over it that is not answered makes it SILENT."""
        self._number = keep(connection)
        self.era = era
        self.silent = False

    def __del__(self) -> None:
        """Let go of it."""
        let_go(self._number, last=True)

    @property
    def connection(self) -> libvirt.virConnect:
        """The connection."""
        connection: libvirt.virConnect = kept(self._number)
        return connection

    def is_alive(self) -> bool:
        """Whether it is not known to be cut."""
        with suppress(libvirt.libvirtError):
            return not self.silent and bool(self.connection.isAlive())
        return False


class _Vain(threading.local):
    """Until when (seconds, monotonic) a thread, which waited in vain for a line, does not again."""

    until = 0.0
    error: LineLostError | None = None


class Line:
    """What the objects of one CONNECTION have in common: their requests take SECONDS or long.

    If it is cut, there is another one by OPEN_AGAIN, once more each time, unless that is None.
    """

    def __init__(
        self,
        connection: libvirt.virConnect,
        seconds: float,
        open_again: Callable[[], libvirt.virConnect] | None,
    ) -> None:
        """Begin with CONNECTION."""
        self._now = _Opened(connection, 0)
        self._seconds = seconds
        self._open_again = open_again
        self._threads = Threads()
        self._opening = threading.Lock()
        self._vain = _Vain()
        self.reopened: list[Callable[[], object]] = []
        self.closed = False

    def answer(
        self,
        name: str,
        call: Callable[[libvirt.virConnect, int], object],
        *,
        lasting: bool = True,
    ) -> tuple[object, int]:
        """Return what CALL of the method NAME returns, or raise what it raises; and the era.

        It is called with the connection of that era.  LASTING: what it is about can be found
        again over the next one.  Raises SilenceError.
        """
        now = self._alive(name) if lasting else self._now
        try:
            return self._asked(name, call, now), now.era
        except (libvirt.libvirtError, SilenceError) as error:
            # Whether what changes something was done, nobody knows.
            if not (lasting and only_looks(name) and self._is_cut(error, now)):
                raise
            try:
                other = self._alive(name)
            except AnotherHostError:
                raise
            except HypervisorError:
                raise error from None
            if other is now:  # there is no other
                raise
        return self._asked(name, call, other), other.era

    @contextmanager
    def used(self, name: str) -> Iterator[tuple[libvirt.virConnect, int]]:
        """Yield the connection, and its era, for the method NAME of an object of another line.

        It is not closed in the body.  Raises HypervisorError, also if it is closed already.
        """
        with self._threads.going_on():
            now = self._alive(name)
            yield now.connection, now.era

    def era(self) -> int:
        """Return how often there was another connection.  Raises HypervisorError."""
        return self._alive("connect again").era

    def stay(self) -> None:
        """Have no other connection from now on: requests fail if this one is cut."""
        self._open_again = None

    def close(self) -> None:
        """Close the connection, or leave that to the end of requests that nobody waits for.

        Libvirt would free what they use.  Its own object closes it when the last is gone
        that refers to it.
        """
        self.stay()
        self.closed = True
        if self._threads.end():
            self._now.connection.close()

    def _asked(
        self, name: str, call: Callable[[libvirt.virConnect, int], object], over: _Opened
    ) -> object:
        seconds = seconds_for(name, self._seconds)
        return within(
            seconds,
            name,
            lambda: call(over.connection, over.era),
            grace=_GRACE,
            threads=self._threads,
            patience=(self._seconds, partial(self._look, over))
            if seconds > self._seconds
            else None,
        )

    def _look(self, over: _Opened) -> None:
        """See whether any other request is answered OVER that connection.  Raises SilenceError."""
        with suppress(libvirt.libvirtError):
            self._asked("getHostname", lambda connection, _: connection.getHostname(), over)

    def _is_cut(self, error: Exception, over: _Opened) -> bool:
        """Whether ERROR came up since OVER was cut, or says nothing any more."""
        if isinstance(error, SilenceError):
            over.silent = True
        return over is not self._now or not over.is_alive()

    def _alive(self, doing: str) -> _Opened:
        """Return a connection that is not known to be cut, if there may be another one.

        It is wanted for DOING something.  Raises LineLostError.
        """
        if self._open_again is None or self._now.is_alive():
            return self._now
        # Each who asks has this time of its own, whoever tried in the background.
        deadline = time.monotonic() + self._seconds
        if self._vain.error is not None and time.monotonic() < self._vain.until:
            raise self._vain.error.when(doing)
        with taken(self._opening):
            if self._open_again is None or self._now.is_alive():
                return self._now
            connection = self._opened_again(self._open_again, deadline, doing)
            self._now = _Opened(connection, self._now.era + 1)
        for tell in tuple(self.reopened):
            tell()
        return self._now

    def _opened_again(
        self, open_again: Callable[[], libvirt.virConnect], deadline: float, doing: str
    ) -> libvirt.virConnect:
        """Return another connection, for DOING, before the DEADLINE.  Raises LineLostError."""
        while True:
            left = max(deadline - time.monotonic(), _POLL_SECONDS)
            try:
                return within(left, "connect again", open_again, unwanted=_closed)
            except (libvirt.libvirtError, SilenceError) as error:
                if time.monotonic() + _POLL_SECONDS >= deadline:
                    # Who cleans up does not wait as long again, for each thing.
                    self._vain.until = time.monotonic() + 2 * self._seconds
                    # Not what is raised: it would keep all that its traceback knows.
                    self._vain.error = self._lost(doing, error)
                    raise self._vain.error.when(doing) from error
                pause(_POLL_SECONDS)

    def _lost(self, doing: str, error: libvirt.libvirtError | SilenceError) -> LineLostError:
        """Return that there is no line for DOING something, as ERROR says."""
        seconds = self._seconds
        if isinstance(error, SilenceError):
            return LineLostError(doing, f"no answer within {seconds:g} s", seconds, error.hint)
        return LineLostError(doing, str(error), seconds, _HINT)


def _closed(connection: libvirt.virConnect) -> None:
    with suppress(libvirt.libvirtError):
        connection.close()
