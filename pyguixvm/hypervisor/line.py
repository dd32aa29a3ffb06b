# SPDX-License-Identifier: GPL-3.0-or-later
"""The line to a hypervisor: one connection after another, whenever one was cut."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

import libvirt

from pyguixvm.errors import HypervisorError
from pyguixvm.hypervisor.request_kinds import only_looks, seconds_for
from pyguixvm.hypervisor.time_limits import SilenceError, Threads, within
from pyguixvm.interruption import pause, taken

# Between two tries to connect again (seconds).
_POLL_SECONDS = 0.5
# What was begun is brought to its end if that takes no longer: it is known to be done.
_GRACE = 1.0


class Line:
    """What the objects of one CONNECTION have in common: their requests take SECONDS or long.

    If it is cut, there is another one by OPEN, once more each time, unless that is None.
    """

    def __init__(
        self,
        connection: libvirt.virConnect,
        seconds: float,
        open_again: Callable[[], libvirt.virConnect] | None,
    ) -> None:
        """Begin with CONNECTION."""
        self._connection = connection
        self._seconds = seconds
        self._open_again = open_again
        self._threads = Threads()
        self._era = 0
        self._silent = False
        self._opening = threading.Lock()
        self.reopened: list[Callable[[], object]] = []

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
        if lasting:
            self._reopen_if_cut()
        connection, era = self._connection, self._era
        try:
            return self._bounded(name, lambda: call(connection, era)), era
        except (libvirt.libvirtError, SilenceError) as error:
            # Whether what changes something was done, nobody knows.
            if not (lasting and only_looks(name) and self._is_cut(error, era)):
                raise
            try:
                self._reopen_if_cut()
            except HypervisorError:
                raise error from None
            if self._era == era:  # there is no other
                raise
        connection, era = self._connection, self._era
        return self._bounded(name, lambda: call(connection, era)), era

    def era(self) -> int:
        """Return how often there was another connection.  Raises HypervisorError."""
        self._reopen_if_cut()
        return self._era

    def _bounded(self, name: str, call: Callable[[], object]) -> object:
        seconds = seconds_for(name, self._seconds)
        return within(
            seconds,
            name,
            call,
            grace=_GRACE,
            threads=self._threads,
            patience=(self._seconds, self._look) if seconds > self._seconds else None,
        )

    def _is_cut(self, error: Exception, era: int) -> bool:
        """Whether ERROR came up since the connection of ERA was cut, or says nothing any more."""
        # Behind ssh, one that is closed counts as alive for a moment.
        if isinstance(error, SilenceError) or "socket is closed" in str(error):
            self._silent = self._silent or era == self._era
            return True
        return era != self._era or not self._is_alive()

    def _is_alive(self) -> bool:
        with suppress(libvirt.libvirtError):
            return not self._silent and bool(self._connection.isAlive())
        return False

    def _reopen_if_cut(self) -> None:
        """Have a connection that is not known to be cut.  Raises HypervisorError."""
        if self._open_again is None or self._is_alive():
            return
        with taken(self._opening):
            if self._open_again is None or self._is_alive():
                return
            self._connection = self._opened_again(self._open_again)
            self._era += 1
            self._silent = False
        for tell in self.reopened:
            tell()

    def _opened_again(self, open_again: Callable[[], libvirt.virConnect]) -> libvirt.virConnect:
        """Return another connection, or give up for good.  Raises HypervisorError."""
        deadline = time.monotonic() + self._seconds
        while True:
            left = max(deadline - time.monotonic(), _POLL_SECONDS)
            try:
                return within(left, "connect again", open_again, unwanted=_closed)
            except (libvirt.libvirtError, SilenceError) as error:
                if time.monotonic() + _POLL_SECONDS >= deadline:
                    # Those who clean up do not wait as long again, each of them.
                    self._open_again = None
                    raise HypervisorError(
                        f"the connection was lost, and there is no other: {error}",
                        hint="run the command again when the hypervisor can be reached",
                    ) from error
                pause(_POLL_SECONDS)

    def close(self) -> None:
        """Close the connection, or leave that to the end of requests that nobody waits for.

        Libvirt would free what they use.  Its own object closes it when the last is gone
        that refers to it.
        """
        self._open_again = None
        if self._threads.end():
            self._connection.close()

    def _look(self) -> None:
        """See whether any other request is answered.  Raises SilenceError."""
        with suppress(libvirt.libvirtError):
            self._bounded("getHostname", self._connection.getHostname)


def _closed(connection: libvirt.virConnect) -> None:
    with suppress(libvirt.libvirtError):
        connection.close()
