# SPDX-License-Identifier: GPL-3.0-or-later
"""The leases of libvirt's networks, and which of them are those of the guest that runs.

A network remembers the leases of a MAC address until they expire, those of earlier
guests among them, and nobody says when a domain was started.  So whoever starts one
leaves with it what was known then; it goes when the guest does.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TypeAlias

import libvirt
import msgspec
from lxml import etree

from pyguixvm.decoding import decode
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.xml.text import element, render

# MAC address and IP address.
Lease: TypeAlias = tuple[str, str]

_NAMESPACE = "urn:pyguixvm:boot:1"
_PREFIX = "pyguixvm-boot"


def leases(connection: Connection, networks: frozenset[str]) -> dict[Lease, int]:
    """Return the expiry times (seconds since the epoch) of the leases of NETWORKS.

    A renewed lease expires later.  One that never expires has time 0.
    """
    return leases_of(find_networks(connection, networks))


def find_networks(
    connection: Connection, networks: frozenset[str]
) -> tuple[libvirt.virNetwork, ...]:
    """Return libvirt's own objects of those of NETWORKS that there are; for this package only."""
    found = []
    for name in networks:
        with suppress(libvirt.libvirtError):
            found.append(connection.resolved.network(name))
    return tuple(found)


def leases_of(networks: Iterable[libvirt.virNetwork]) -> dict[Lease, int]:
    """Return as `leases` those of NETWORKS: one request for each."""
    found: dict[Lease, int] = {}
    for network in networks:
        with suppress(libvirt.libvirtError):  # a bridge has no leases
            for lease in network.DHCPLeases():
                found[(lease["mac"] or "").lower(), lease["ipaddr"]] = lease["expirytime"]
    return found


def remember(
    domain: libvirt.virDomain, machine: VirtualMachine, known: Mapping[Lease, int]
) -> None:
    """Let DOMAIN, that of MACHINE, which runs, remember those of the leases KNOWN that are its.

    Without that, whoever asks later knows less; a driver without metadata is no trouble.
    """
    macs = {interface.mac_address.lower() for interface in machine.domain.networking}
    ours = [[*lease, expiry] for lease, expiry in sorted(known.items()) if lease[0] in macs]
    with suppress(libvirt.libvirtError):
        domain.setMetadata(
            libvirt.VIR_DOMAIN_METADATA_ELEMENT,
            render(element("leases", json.dumps(ours))),
            _PREFIX,
            _NAMESPACE,
            libvirt.VIR_DOMAIN_AFFECT_LIVE,
        )


def remembered(live: etree._Element) -> dict[Lease, int] | None:
    """Return the leases that were known before the domain LIVE was started.

    None if nobody knows: somebody else started it.
    """
    found = live.findtext(f"metadata/{{{_NAMESPACE}}}leases")
    if found is None:
        return None
    with suppress(msgspec.DecodeError, msgspec.ValidationError):
        known = decode(found, list[tuple[str, str, int]])
        return {(mac, address): expiry for mac, address, expiry in known}
    return None


def outdated(known: Mapping[Lease, int], before: Mapping[Lease, int] | None) -> dict[Lease, int]:
    """Return those of KNOWN that are no address of the guest that runs.

    BEFORE are those that were known when it was started, None if nobody knows.
    Of the rest, the newest of each kind count for each MAC address: a guest may have
    had several since.
    """
    old = {
        lease: expiry
        for lease, expiry in known.items()
        if before is not None and lease in before and 0 < expiry <= before[lease]
    }
    newest = _newest({lease: expiry for lease, expiry in known.items() if lease not in old})
    return {lease: expiry for lease, expiry in known.items() if lease not in newest}


def _newest(known: Mapping[Lease, int]) -> tuple[Lease, ...]:
    """Return those of KNOWN that expire last, for each MAC address one of each kind."""
    newest: dict[tuple[str, bool], tuple[float, str]] = {}
    for (mac, address), expiry in known.items():
        kind = (mac, ":" in address)
        candidate = (expiry or math.inf, address)
        newest[kind] = max(newest.get(kind, candidate), candidate)
    return tuple((mac, address) for (mac, _), (_, address) in newest.items())
