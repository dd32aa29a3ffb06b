# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens to a domain is told by libvirt, and need not be asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import libvirt

from pyguixvm.hypervisor.connection import Connection


@contextmanager
def happenings(connection: Connection, domain: libvirt.virDomain) -> Iterator[threading.Event]:
    """Yield what is set whenever the state of DOMAIN changes, or its agent comes or goes."""
    happened = threading.Event()

    def happen(*_: object) -> None:
        happened.set()

    with connection.events.listening(
        domain.UUIDString(),
        {
            libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE: happen,
            libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE: happen,
        },
    ):
        yield happened


@contextmanager
def ends(connection: Connection, domain: libvirt.virDomain) -> Iterator[threading.Event]:
    """Yield what is set as soon as the guest of DOMAIN has stopped."""
    ended = threading.Event()

    def changed(event: int, *_: object) -> None:
        if event == libvirt.VIR_DOMAIN_EVENT_STOPPED:
            ended.set()

    told = {libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE: changed}
    with connection.events.listening(domain.UUIDString(), told):
        yield ended


@contextmanager
def reboots(connection: Connection, domain: libvirt.virDomain) -> Iterator[threading.Event]:
    """Yield what is set as soon as the guest of DOMAIN begins anew."""
    begun = threading.Event()

    def rebooted(*_: object) -> None:
        begun.set()

    def changed(event: int, *_: object) -> None:
        # A reboot by the power button is, for libvirt, a reset and a resume.
        if event == libvirt.VIR_DOMAIN_EVENT_RESUMED:
            begun.set()

    with connection.events.listening(
        domain.UUIDString(),
        {
            libvirt.VIR_DOMAIN_EVENT_ID_REBOOT: rebooted,
            libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE: changed,
        },
    ):
        yield begun
