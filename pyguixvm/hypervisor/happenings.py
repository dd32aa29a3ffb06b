# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens to a domain is told by libvirt, and need not be asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial

import libvirt

from pyguixvm.hypervisor.at_once import begun
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.errors import explained

# What changes how a machine compares with its declaration; the drivers know all of these.
_EVENTS = (
    libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE,
    libvirt.VIR_DOMAIN_EVENT_ID_REBOOT,
    libvirt.VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON,
    libvirt.VIR_DOMAIN_EVENT_ID_BLOCK_JOB,
    libvirt.VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE,
    libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED,
    libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED,
    libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE,
    libvirt.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE,
)


# What tells that a guest comes or goes, or its agent.
_OF_GUESTS = (
    libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE,
    libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE,
)


def begin_happenings(connection: Connection) -> None:
    """Have libvirt asked, while something else is done, to tell what `happenings` is about."""
    if not connection.local:
        begun(partial(connection.events.ask, _OF_GUESTS), far=True)


def happenings(
    connection: Connection, domain: libvirt.virDomain
) -> AbstractContextManager[threading.Event]:
    """Yield what is set whenever the state of DOMAIN changes, or its agent comes or goes."""
    return _told(connection, domain, dict.fromkeys(_OF_GUESTS))


def ends(
    connection: Connection, domain: libvirt.virDomain
) -> AbstractContextManager[threading.Event]:
    """Yield what is set as soon as the guest of DOMAIN has stopped."""
    stopped = libvirt.VIR_DOMAIN_EVENT_STOPPED
    return _told(connection, domain, {libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE: stopped})


def reboots(
    connection: Connection, domain: libvirt.virDomain
) -> AbstractContextManager[threading.Event]:
    """Yield what is set as soon as the guest of DOMAIN begins anew."""
    return _told(
        connection,
        domain,
        {
            libvirt.VIR_DOMAIN_EVENT_ID_REBOOT: None,
            # A reboot by the power button is, for libvirt, a reset and a resume.
            libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE: libvirt.VIR_DOMAIN_EVENT_RESUMED,
        },
    )


@contextmanager
def all_happenings(connection: Connection, tell: Callable[[], object]) -> Iterator[None]:
    """Have TELL called, in the body, whenever something happens to a domain of CONNECTION.

    Raises HypervisorError.
    """

    def hear(*_said: object) -> None:
        tell()

    with ExitStack() as listening:
        with explained("hear what happens"):
            listening.enter_context(connection.events.listening(None, dict.fromkeys(_EVENTS, hear)))
        yield


@contextmanager
def _told(
    connection: Connection, domain: libvirt.virDomain, signs: Mapping[int, int | None]
) -> Iterator[threading.Event]:
    """Yield what is set by the events of DOMAIN that SIGNS has: any, or those that begin so."""
    told = threading.Event()

    def hear(wanted: int | None, *said: int) -> None:
        if wanted is None or said[:1] == (wanted,):
            told.set()

    callbacks = {event: partial(hear, wanted) for event, wanted in signs.items()}
    with connection.events.listening(domain.UUIDString(), callbacks):
        yield told
