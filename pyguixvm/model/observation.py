# SPDX-License-Identifier: GPL-3.0-or-later
"""What was found on a hypervisor, at one moment."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from pyguixvm.model.applied import Metadata
from pyguixvm.model.data_record import FoundRecord
from pyguixvm.model.guest import Inside
from pyguixvm.model.statistics import PoolSpace, Statistics
from pyguixvm.model.volume_names import data_label, data_of, file_name

# Why a domain is off that may run elsewhere by now.
MIGRATED = "migrated away"
# Why a guest is paused that could not write to a disk, or read it.
IO_ERROR = "by an I/O error"
# What is the host's of a definition.
HostPart: TypeAlias = Literal["emulator", "machine-type", "firmware"]
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


class ObservedDisk(msgspec.Struct, frozen=True, rename="kebab"):
    """A disk that the guest writes to SOURCE, a file, a device or what else it is, in words.

    TARGET is its name, ``vda``, and SERIAL what the guest knows it by.  BELOW are the files that
    SOURCE stands on, nearest first; None where the domain's XML does not say.
    """

    source: str
    target: str = ""
    serial: str | None = None
    below: tuple[str, ...] | None = None


class Snapshot(msgspec.Struct, frozen=True, rename="kebab"):
    """A snapshot that libvirt keeps, of a domain that had DISKS; it put LAYERS on some of them."""

    name: str
    disks: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()


class BlockJob(msgspec.Struct, frozen=True, rename="kebab"):
    """Libvirt's work of KIND, such as "block copy", at the disk called TARGET."""

    target: str
    kind: str


class Hardware(msgspec.Struct, frozen=True, rename="kebab"):
    """What a domain's XML says of that which is declared; sizes are bytes.

    DISKS are the file names of its disks, backing files left out; STACKS say more of each.
    PLAIN are its plain fields by their names, as XML has them.  EMULATOR and LOADER
    are files of the host, MACHINE_TYPE is what the one knows.  CONSOLE and AGENT_CHANNEL:
    there is a serial line, and one for a guest agent; AGENT_LISTENS: at that.  HOST_DEVICES are
    those of its host that it was given, in words.  TPM: one is emulated for it, whose state its
    host keeps.  VARIABLES is of which kind that is in which its firmware, if it is UEFI, keeps its
    variables.
    """

    cpu: int
    maximum_cpu: int
    memory: int
    maximum_memory: int
    domain_type: str
    firmware: str = "bios"
    interfaces: tuple[ObservedInterface, ...] = ()
    disks: tuple[str, ...] = ()
    stacks: tuple[ObservedDisk, ...] = ()
    plain: dict[str, str] = {}
    directories: tuple[SharedDirectory, ...] = ()
    emulator: str | None = None
    machine_type: str | None = None
    loader: str | None = None
    console: bool = True
    agent_channel: bool = True
    agent_listens: bool = False
    host_devices: tuple[str, ...] = ()
    tpm: bool = False
    variables: str = "file"


def disks_of(*hardware: Hardware | None) -> tuple[str, ...]:
    """Return the file names of the disks of each HARDWARE, in order.

    Of those that are called alike, the one that we gave a machine comes first: it has the
    serial number of a data disk.
    """
    there = [each for each in hardware if each is not None]
    given = {disk.source for each in there for disk in each.stacks if _is_given(disk)}
    found = [path for each in there for path in each.disks]
    return tuple(sorted(found, key=lambda path: path not in given))


def _is_given(disk: ObservedDisk) -> bool:
    named = data_of(file_name(disk.source))
    return named is not None and disk.serial == data_label(named[1])


class ObservedDomain(msgspec.Struct, frozen=True, rename="kebab"):
    """A domain; METADATA is None for one that is not ours.

    UNREADABLE says why our metadata cannot be used (a newer pyguixvm wrote it, it is
    damaged, or that of another domain), and HINT what to do: then METADATA is None.
    RENAMED_FROM is the machine that such a domain is, or may be, under another name.
    DEFINED is what it starts with, LIVE what it runs with, None while it does not.
    CAPACITIES are the sizes (bytes) of its data disks, by the names of their volumes.
    SNAPSHOTS and CHECKPOINTS are those that libvirt keeps of it, parents first, and JOBS what
    goes on at its disks.  ROOT_GONE: the file of its root is not there, though it may run.
    DATA_GONE are the volumes of its data disks on which it runs, and whose files are not there.
    LOST is what it is defined with, and its host does not have any more.
    SAVED: it does not run, and goes on from memory that libvirt keeps when it is started.
    ADDRESSES are those of its guest, none where nobody asked for them, nor for STATISTICS.
    LOCAL_BASE is the name of the base volume that the declared local image needs by what it
    holds now, None where that was not looked at.  INSIDE is what its guest says, None where it
    says nothing or was not asked, and BOOTED the system that it named on its console when we
    last saw it boot.  REASON says why it is in its STATE, if that is worth a word.
    WITHOUT_BALLOON: its guest has other memory than it is defined with, and nothing was heard
    of a driver that would change that.
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
    hint: str | None = None
    renamed_from: str | None = None
    capacities: dict[str, int] = {}
    snapshots: tuple[Snapshot, ...] = ()
    checkpoints: tuple[str, ...] = ()
    jobs: tuple[BlockJob, ...] = ()
    root_gone: bool = False
    data_gone: tuple[str, ...] = ()
    lost: tuple[HostPart, ...] = ()
    saved: bool = False
    without_balloon: bool = False
    addresses: tuple[str, ...] = ()
    local_base: str | None = None
    reason: str | None = None
    statistics: Statistics | None = None
    inside: Inside | None = None
    booted: str | None = None


class Host(msgspec.Struct, frozen=True, rename="kebab"):
    """What the machine of a hypervisor has for a guest; None where that was not asked or told.

    MEMORY is in bytes, MAXIMUM_CPU how many vCPUs our machine type can have.  NETWORKS and
    POOLS are the names of those of libvirt's that are defined there, active or not.
    """

    memory: int | None = None
    maximum_cpu: int | None = None
    networks: tuple[str, ...] | None = None
    pools: tuple[str, ...] | None = None


class StoredVolume(msgspec.Struct, frozen=True, rename="kebab"):
    """A volume of ours in POOL that takes ALLOCATION bytes; WHOLE: nobody is making it.

    BASE is the name of the volume that it stands on, if there is one.
    """

    pool: str
    name: str
    allocation: int
    whole: bool
    base: str | None = None


class Observation(msgspec.Struct, frozen=True, rename="kebab"):
    """The domains of the hypervisor at URI, by name; LOCAL if it is this machine.

    SHELL: if it is not, its host may have one for us, by ssh.
    STORE is how the hypervisor has Guix's store, if it is this machine: libvirt as root gives
    files that it uses to QEMU's user, if it can.
    POOLS are the active ones, with the names of the volumes in each that carry our prefix
    and are whole; VOLUMES are those of all.
    IMAGES are those of the store items that generations stand on which are in the store of this
    machine, too.  SPARE are images in it, by their layouts, that roots can stand on, though none
    may yet; none for a hypervisor elsewhere.  HOST is the hypervisor's machine.  STORED are our
    volumes, those half made among them, HOLDERS who changes which machine, in words, and RECORDED
    the data volumes that are remembered for machines which do not have them; all are empty where
    nobody asked for them.  BEGUN is when it was looked at (seconds since the epoch); what was made
    later may not have been seen.  SPACES is how full the pools are, where somebody asked for
    statistics.
    """

    uri: str
    local: bool
    domains: dict[str, ObservedDomain]
    volumes: tuple[str, ...] = ()
    pools: dict[str, tuple[str, ...]] = {}
    images: frozenset[str] = frozenset()
    spare: dict[str, str] = {}
    store: Literal["absent", "writable", "read-only"] = "absent"
    host: Host = Host()
    stored: tuple[StoredVolume, ...] = ()
    holders: dict[str, str] = {}
    recorded: tuple[FoundRecord, ...] = ()
    begun: float = 0.0
    spaces: tuple[PoolSpace, ...] = ()
    shell: bool = False
