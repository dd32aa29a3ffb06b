# SPDX-License-Identifier: GPL-3.0-or-later
"""Which system a guest booted, as it wrote on its console while somebody listened.

Nobody can read later what it wrote, so that whoever listens leaves it with the domain; it
goes when the guest does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress

import libvirt
from lxml import etree

from pyguixvm.model.boot_messages import booted_system, system_named
from pyguixvm.xml.text import element, render

_NAMESPACE = "urn:pyguixvm:booted:1"
_PREFIX = "pyguixvm-booted"


def remember(domain: libvirt.virDomain, lines: Callable[[], Iterable[str]]) -> None:
    """Let DOMAIN, which runs, remember the system that LINES of its console name, if any.

    One that is gone by now, or a driver without metadata, is no trouble.
    """
    booted = booted_system(lines())
    if booted is not None:
        _set(domain, render(element("system", booted)))


def forget(domain: libvirt.virDomain) -> None:
    """Let DOMAIN, whose guest begins anew and stays the same for libvirt, remember none."""
    _set(domain, None)


def _set(domain: libvirt.virDomain, system: str | None) -> None:
    with suppress(libvirt.libvirtError):
        domain.setMetadata(
            libvirt.VIR_DOMAIN_METADATA_ELEMENT,
            system,
            _PREFIX,
            _NAMESPACE,
            libvirt.VIR_DOMAIN_AFFECT_LIVE,
        )


def remembered(live: etree._Element) -> str | None:
    """Return the system that the guest of the domain LIVE booted, None if nobody heard it.

    It may have begun anew since, which nobody heard either.
    """
    found = live.findtext(f"metadata/{{{_NAMESPACE}}}system")
    return None if found is None else system_named(found)
