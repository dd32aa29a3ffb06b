# SPDX-License-Identifier: GPL-3.0-or-later
"""Signs of life of whoever holds locks: each time their secrets get another value.

They go over a connection of their own: while an upload fills the work's, nothing else
gets through there in time.
"""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import ExitStack

import libvirt

from pyguixvm.errors import HypervisorError
from pyguixvm.hypervisor.connection import Connection, anew
from pyguixvm.hypervisor.machine_lock import secret

# Seconds that the end of the work waits for a beat which is under way.
_LAST_BEAT = 1.0


class Beats:
    """Beats for locks every EVERY seconds, from the first one on until told to stop."""

    def __init__(self, connection: Connection, every: float) -> None:
        """Do nothing yet.  CONNECTION is the work's, used if there cannot be another one."""
        self._connection = connection
        self._every = every
        self._numbers = itertools.count(1)
        self._last: dict[str, float] = {}
        # Of those who take and let go of locks side by side.
        self._changing = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lock", daemon=True)

    def add(self, token: str) -> None:
        """Beat for the lock TOKEN, too, which was taken just now."""
        with self._changing:
            self._last[token] = _now()
            # The other connection is made when the first beat is due: who is quick needs none.
            if not self._thread.is_alive():
                self._thread.start()

    def forget(self, token: str) -> None:
        """Beat no more for the lock TOKEN, which is let go of."""
        with self._changing:
            self._last.pop(token, None)

    def age(self, token: str) -> float:
        """Return how long ago (seconds) the last beat for the lock TOKEN began that arrived."""
        return _now() - self._last[token]

    def beat(self, connection: Connection, token: str) -> bool:
        """Beat for the lock TOKEN over CONNECTION; False if it is not there any more.

        One that was taken away cannot come back by this.  Raises libvirtError.
        """
        begun = _now()
        if not secret.set_value(connection, token, str(next(self._numbers)).encode()):
            return False
        with self._changing:
            if token in self._last:
                self._last[token] = begun
        return True

    def stop(self) -> None:
        """Beat no more."""
        self._done.set()
        if self._thread.is_alive():
            self._thread.join(_LAST_BEAT)

    def _run(self) -> None:
        with ExitStack() as own:
            connection: Connection | None = None
            while not self._done.wait(self._every):
                if connection is None or not self._beat_all(connection):
                    own.close()
                    connection = self._connect(own)
                    self._beat_all(connection or self._connection)

    def _connect(self, own: ExitStack) -> Connection | None:
        try:
            return own.enter_context(anew(self._connection, once=True))
        except HypervisorError:
            return None

    def _beat_all(self, connection: Connection) -> bool:
        """Beat for all locks; False if CONNECTION does not serve for that."""
        try:
            for token in tuple(self._last):
                self.beat(connection, token)
        except (libvirt.libvirtError, HypervisorError):
            return False
        return True


def _now() -> float:
    """Return the time (seconds) on a clock that goes on while this computer sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
