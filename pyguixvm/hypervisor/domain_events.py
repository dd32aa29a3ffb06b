# SPDX-License-Identifier: GPL-3.0-or-later
"""Libvirt's events, told to all in this process who want to hear them."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

import libvirt

from pyguixvm.errors import HypervisorError
from pyguixvm.hypervisor.bounded import on_reopening
from pyguixvm.hypervisor.time_limits import SilenceError


class Events:
    """The events of the domains of one connection, for all who listen; safe between threads.

    Libvirt tells each kind of event of a domain once for each connection: here it is asked
    for the events of all of them, when the first listens to that kind.
    """

    def __init__(self, handle: libvirt.virConnect) -> None:
        """Ask libvirt's HANDLE for nothing yet."""
        self._handle = handle
        self._lock = threading.Lock()
        self._registered: dict[int, int] = {}
        self._listening: dict[int, tuple[int, str | None, Callable[..., None]]] = {}
        self._numbers = itertools.count()
        on_reopening(handle, self._renew)

    @contextmanager
    def listening(
        self, uuid: str | None, callbacks: Mapping[int, Callable[..., None]]
    ) -> Iterator[None]:
        """Have CALLBACKS, by VIR_DOMAIN_EVENT_ID_…, called for the domain of UUID in the body.

        Without UUID, for all domains.

        They are called by the event loop, with what libvirt says beside the domain; without, when
        something may have been missed.  Raises libvirtError.
        """
        numbers = []
        try:
            for event, callback in callbacks.items():
                numbers.append(next(self._numbers))
                self._listening[numbers[-1]] = (event, uuid, callback)
                self._register(event)
            yield
        finally:
            for number in numbers:
                self._listening.pop(number, None)

    def end(self) -> None:
        """Have libvirt tell nothing any more: else, it keeps the connection."""
        with self._lock:
            registered, self._registered = self._registered, {}
        for number in registered.values():
            with suppress(libvirt.libvirtError, SilenceError):
                self._handle.domainEventDeregisterAny(number)

    def _register(self, event: int) -> None:
        with self._lock:
            if event not in self._registered:
                self._registered[event] = self._handle.domainEventRegisterAny(
                    None, event, self._tell, event
                )

    def _renew(self) -> None:
        """Have the next connection tell the same, and all look whether they missed anything."""
        with self._lock:
            events, self._registered = tuple(self._registered), {}
        with suppress(libvirt.libvirtError, HypervisorError):
            for event in events:
                self._register(event)
        for _, _, callback in tuple(self._listening.values()):
            callback()

    def _tell(self, _connection: object, domain: libvirt.virDomain, *said: object) -> None:
        """Tell whom it concerns; called by the event loop."""
        *details, event = said
        uuid = domain.UUIDString()
        for wanted, whose, callback in tuple(self._listening.values()):
            if wanted == event and whose in {None, uuid}:
                callback(*details)
