# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests are asked how they are, by threads of their own: one that hangs delays nobody else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from pyguixvm.errors import PyguixvmError
from pyguixvm.hypervisor.connection import Connection, connect
from pyguixvm.hypervisor.guest.inside import with_insides
from pyguixvm.hypervisor.observe import Depth, observe
from pyguixvm.model.guest import Inside

# Seconds: how often guests are asked, and how long what they said is believed.
_ASK_AGAIN = 30.0
_BELIEVED = 180.0
_RECONNECT = 10.0


class Guests:
    """Asks the guests at the hypervisor at URI, from `start` to `stop`; NEWS is called after."""

    def __init__(self, uri: str | None, news: Callable[[], None]) -> None:
        """Ask nobody yet."""
        self._uri = uri
        self._news = news
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._said: dict[str, tuple[float, Inside]] = {}
        self._thread = threading.Thread(target=self._run, name=f"guests at {uri}", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more."""
        self._stopped.set()

    def said(self) -> dict[str, Inside]:
        """Return what guests said lately, by the UUIDs of their domains."""
        now = time.monotonic()
        with self._lock:
            return {
                uuid: inside for uuid, (when, inside) in self._said.items()
                if now - when < _BELIEVED
            }  # fmt: skip

    def _run(self) -> None:
        while not self._stopped.is_set():
            with suppress(PyguixvmError), connect(self._uri) as connection:
                while not self._stopped.is_set():
                    self._ask(connection)
                    self._stopped.wait(_ASK_AGAIN)
            self._stopped.wait(_RECONNECT)

    def _ask(self, connection: Connection) -> None:
        seen = observe(connection, Depth.ADDRESSES, machines=())
        observed = list(seen.domains.values())
        domains = connection.handle.listAllDomains(0)
        before = self.said()
        said = {
            each.uuid: each.inside
            for each in with_insides(observed, domains, read_only=connection.read_only)
            if each.inside is not None
        }
        now = time.monotonic()
        with self._lock:
            # One that says nothing now is not known any more: it may have been replaced.
            self._said = {uuid: (now, inside) for uuid, inside in said.items()}
        if _systems(before) != _systems(said):
            self._news()


def _systems(said: dict[str, Inside]) -> dict[str, object]:
    return {uuid: (each.booted, each.running, each.failed) for uuid, each in said.items()}
