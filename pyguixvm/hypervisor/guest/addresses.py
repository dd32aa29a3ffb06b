# SPDX-License-Identifier: GPL-3.0-or-later
"""The addresses of guests, by who knows them: their agents, libvirt's leases, the host."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from contextlib import suppress

import libvirt
from lxml import etree

from pyguixvm.hypervisor import dhcp, domains
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.domains import Which
from pyguixvm.hypervisor.guest import agent
from pyguixvm.xml.inspection import has_agent, network_interfaces
from pyguixvm.xml.text import parse

AGENT = libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT
ARP = libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP
# More than any guest needs to be found by.
_MOST = 64
# The longest way to write an IPv6 address (characters).
_LONGEST = 45


def addresses(
    connection: Connection,
    name: Which,
    *,
    seen_by_host: bool = False,
    live: etree._Element | None = None,
) -> tuple[str, ...]:
    """Return what is known of the addresses of the active domain NAME, by the best source.

    Its agent knows best.  SEEN_BY_HOST: it is asked last, since a guest may call anything its
    address, and have who logs in there go elsewhere.  LIVE is how the domain runs, if that was
    read already.
    """
    domain = domains.our_domain(connection, name)
    with suppress(libvirt.libvirtError):
        live = parse(domain.XMLDesc(0)) if live is None else live
        sources = (
            (_seen_by_host, _told_by_agent) if seen_by_host else (_told_by_agent, _seen_by_host)
        )
        for source in sources:
            if found := source(connection, domain, live):
                return found
    return ()


def _told_by_agent(
    connection: Connection, domain: libvirt.virDomain, live: etree._Element
) -> tuple[str, ...]:
    if not has_agent(live) or connection.read_only:
        return ()
    agent.limit(domain, agent.SECONDS)
    # Not those of bridges in the guest, which may be addresses of this host, too.
    macs = frozenset(interface.mac_address for interface in network_interfaces(live))
    return useful(at_interfaces(domain, AGENT, macs))


def _seen_by_host(
    connection: Connection, domain: libvirt.virDomain, live: etree._Element
) -> tuple[str, ...]:
    """Return the addresses by libvirt's leases, or else by the neighbours of its host."""
    interfaces = network_interfaces(live)
    macs = frozenset(interface.mac_address for interface in interfaces)
    leases = dhcp.leases(connection, frozenset(interface.network for interface in interfaces))
    outdated = dhcp.outdated(leases, dhcp.remembered(live))
    current = [address for mac, address in leases.keys() - outdated.keys() if mac in macs]
    if current:
        return useful(current)
    gone = {address for _, address in outdated}
    return useful(a for a in at_interfaces(domain, ARP) if a not in gone)


def at_interfaces(
    domain: libvirt.virDomain, source: int, macs: frozenset[str] | None = None
) -> list[str]:
    """Return the addresses that SOURCE knows for DOMAIN's interfaces, or those with MACS.

    An agent has as long as `agent.limit` says.
    """
    try:
        interfaces = domain.interfaceAddresses(source) or {}
    except (libvirt.libvirtError, ValueError):  # no such source here, no agent, or no text
        return []
    return [
        address["addr"]
        for interface in interfaces.values()
        if macs is None or (interface["hwaddr"] or "").lower() in macs
        for address in interface["addrs"] or ()
    ]


def useful(found: Iterable[str]) -> tuple[str, ...]:
    """Return those of FOUND that somebody else can reach, IPv4 first; the rest is left out.

    A guest may call anything its address.
    """
    parsed = dict.fromkeys(filter(None, map(_address, found)))
    return tuple(str(each) for each in sorted(parsed, key=lambda each: each.version))[:_MOST]


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return TEXT as the address of one host, None if it is none.

    Without an interface, which Python would take for a part of it, whatever it is.
    """
    if len(text) > _LONGEST or "%" in text:
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    nobody = (
        address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or address.is_reserved
    )
    return None if nobody else address
