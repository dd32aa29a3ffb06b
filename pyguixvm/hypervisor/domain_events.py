# SPDX-License-Identifier: GPL-3.0-or-later
"""Libvirt's events, told to all in this process who want to hear them."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import libvirt

from pyguixvm.errors import HypervisorError
from pyguixvm.hypervisor.at_once import each
from pyguixvm.hypervisor.bounded import asked, era, on_reopening
from pyguixvm.interruption import taken


@dataclass(frozen=True)
class _Told:
    """That libvirt tells of EVENT: by which NUMBER, over the connection of which ERA."""

    event: int
    number: int
    era: int


class Events:
    """The events of the domains of one connection, for all who listen; safe between threads.

    Libvirt tells each kind of event of a domain once for each connection: here it is asked
    for the events of all of them, when the first listens to that kind.
    """

    def __init__(self, handle: libvirt.virConnect) -> None:
        """Ask libvirt's HANDLE for nothing yet."""
        self._handle = handle
        self._lock = threading.Lock()
        # Libvirt refuses to tell the same twice.  Who finds the line cut as it registers has
        # another one made, which calls `_renew`: that goes on with it.
        self._registering = threading.RLock()
        self._told: list[_Told] = []
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
                self.ask([event])
            yield
        finally:
            for number in numbers:
                self._listening.pop(number, None)

    def ask(self, events: Iterable[int]) -> None:
        """Have libvirt tell of EVENTS, for whoever is going to listen.  Raises libvirtError."""
        for event in events:
            with taken(self._registering):
                if not self._hears(event):
                    self._register(event)

    def end(self, *, far: bool) -> None:
        """Have libvirt, be it FAR away, tell nothing any more: else, it keeps the connection."""
        with self._lock:
            told, self._told = self._told, []
        with suppress(libvirt.libvirtError, HypervisorError):
            now = era(self._handle)
            numbers = [one.number for one in told if one.era == now]
            each(self._handle.domainEventDeregisterAny, numbers, far=far)

    def _hears(self, event: int, since: int = 0) -> bool:
        """Whether libvirt was asked to tell of EVENT, over a connection of SINCE or later."""
        with self._lock:
            return any(one.event == event and one.era >= since for one in self._told)

    def _register(self, event: int) -> None:
        """Have libvirt tell of EVENT, over the connection that there is now."""
        number, now = asked(self._handle, "domainEventRegisterAny", None, event, self._tell, event)
        with self._lock:
            kept = [one for one in self._told if one.event != event or one.era >= now]
            self._told = [*kept, _Told(event, number, now)]

    def _renew(self) -> None:
        """Have the next connection tell the same, and all look whether they missed anything."""
        with self._lock:
            events = {one.event for one in self._told}
        with taken(self._registering), suppress(libvirt.libvirtError, HypervisorError):
            for event in events:
                if not self._hears(event, since=era(self._handle)):
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
