# SPDX-License-Identifier: GPL-3.0-or-later
"""What was found on a hypervisor, at one moment."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from pyguixvm.model.generation import Metadata

State: TypeAlias = Literal["running", "paused", "shut off", "crashed", "suspended"]


class ObservedInterface(msgspec.Struct, frozen=True, rename="kebab"):
    """An interface; NETWORK is None if no libvirt network connects it.

    LINK is whether its cable is plugged in.
    """

    mac_address: str
    network: str | None
    link: bool = True


class SharedDirectory(msgspec.Struct, frozen=True, rename="kebab"):
    """The host's directory SOURCE, which the guest knows as TAG."""

    tag: str
    source: str
    driver: str
    read_only: bool


class Hardware(msgspec.Struct, frozen=True, rename="kebab"):
    """What a domain's XML says of that which is declared; sizes are bytes.

    DISKS are the file names of its disks, backing files left out.
    """

    cpu: int
    maximum_cpu: int
    memory: int
    maximum_memory: int
    domain_type: str
    interfaces: tuple[ObservedInterface, ...] = ()
    disks: tuple[str, ...] = ()
    title: str | None = None
    description: str | None = None
    directories: tuple[SharedDirectory, ...] = ()


class ObservedDomain(msgspec.Struct, frozen=True, rename="kebab"):
    """A domain; METADATA is None for one that is not ours.

    UNREADABLE says why our metadata cannot be read (a newer pyguixvm wrote
    it, or it is damaged): such a domain is ours and METADATA is None.
    DEFINED is what it starts with, LIVE what it runs with, None while it does not.
    CAPACITIES are the sizes (bytes) of its data disks, by the names of their volumes.
    """

    name: str
    uuid: str
    state: State
    autostart: bool
    persistent: bool
    defined: Hardware
    live: Hardware | None = None
    metadata: Metadata | None = None
    unreadable: str | None = None
    capacities: dict[str, int] = {}


class Host(msgspec.Struct, frozen=True, rename="kebab"):
    """What the machine of a hypervisor has for a guest; None where that was not asked or told.

    MEMORY is in bytes, MAXIMUM_CPU how many vCPUs our machine type can have.
    """

    memory: int | None = None
    maximum_cpu: int | None = None


class Observation(msgspec.Struct, frozen=True, rename="kebab"):
    """The domains of the hypervisor at URI, by name; LOCAL if it is this machine.

    STORE is how the hypervisor has Guix's store, if it is this machine: libvirt as root gives
    files that it uses to QEMU's user, if it can.
    VOLUMES are the names, in all active pools, of the volumes that carry our prefix.
    IMAGES are those of the store items that generations stand on which are in the
    store of this machine, too.  HOST is the hypervisor's machine.
    """

    uri: str
    local: bool
    domains: dict[str, ObservedDomain]
    volumes: tuple[str, ...] = ()
    images: frozenset[str] = frozenset()
    store: Literal["absent", "writable", "read-only"] = "absent"
    host: Host = Host()
