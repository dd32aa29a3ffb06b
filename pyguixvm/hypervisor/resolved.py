# SPDX-License-Identifier: GPL-3.0-or-later
"""What names stand for: pools and networks once in a run, domains as they were listed last."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import libvirt

_Object = TypeVar("_Object")


class Resolved:
    """What the names of one hypervisor's pools and networks stood for when they were asked for.

    It knows libvirt's own objects, for this package only.  One that is removed later is gone,
    whatever has its name then.  Those that there are none of are looked up again.  A domain may
    have another name by now.
    """

    def __init__(self, handle: libvirt.virConnect) -> None:
        """Look nothing up yet; HANDLE is the connection's."""
        self._handle = handle
        self._pools: dict[str, libvirt.virStoragePool] = {}
        self._networks: dict[str, libvirt.virNetwork] = {}
        self._domains: dict[str, libvirt.virDomain] = {}

    def pool(self, name: str) -> libvirt.virStoragePool:
        """Return the pool NAME.  Raises libvirtError if there is none."""
        return _known(self._pools, name, self._handle.storagePoolLookupByName)

    def keep_pools(self, found: Iterable[libvirt.virStoragePool]) -> None:
        """Take note of pools that were FOUND otherwise."""
        for pool in found:
            self._pools.setdefault(pool.name(), pool)

    def keep_networks(self, found: Iterable[libvirt.virNetwork]) -> None:
        """Take note of networks that were FOUND otherwise."""
        for network in found:
            self._networks.setdefault(network.name(), network)

    def keep_domains(self, found: Iterable[libvirt.virDomain]) -> None:
        """Take note of all domains, as they were FOUND now."""
        self._domains = {domain.name(): domain for domain in found}

    def domain(self, name: str) -> libvirt.virDomain | None:
        """Return what was domain NAME when all were listed last, None if there was none."""
        return self._domains.get(name)

    def network(self, name: str) -> libvirt.virNetwork:
        """Return the network NAME.  Raises libvirtError if there is none."""
        return _known(self._networks, name, self._handle.networkLookupByName)


def _known(found: dict[str, _Object], name: str, look_up: Callable[[str], _Object]) -> _Object:
    # Of two threads that ask at once, each may look it up.
    if name not in found:
        found[name] = look_up(name)
    return found[name]
