# SPDX-License-Identifier: GPL-3.0-or-later
"""What a configuration declares, as the evaluator reports it.

These structures are the Python side of the JSON that
``guix/pyguixvm/evaluator/json.scm`` writes.  Keys are in the words of the Scheme
records; sizes are bytes.  Unknown keys are refused, and SCHEMA tells apart
versions that do not understand each other.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

from pyguixvm.model.declared import Declared
from pyguixvm.model.image import Image
from pyguixvm.model.provenance import Provenance

SCHEMA = 1


class Location(Declared, frozen=True):
    """A place in the user's Scheme; LINE counts from 1, COLUMN from 0 as Guix does."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        """``file:line:column``, as editors and compilers spell it."""
        return f"{self.file}:{self.line}:{self.column}"


class Networking(Declared, frozen=True):
    """One virtio interface, connected to the libvirt network NETWORK."""

    network: str
    mac_address: str


class DataDisk(Declared, frozen=True, tag_field="kind", tag="data-disk"):
    """A volume of SIZE bytes that outlives the root, formatted once with FILE_SYSTEM.

    The operating system mounts it at TARGET; None leaves that to the guest.
    """

    name: str
    size: int
    file_system: Literal["ext4", "btrfs"]
    target: str | None


class BlockDevice(Declared, frozen=True, tag_field="kind", tag="block-device"):
    """The host's disk with the file name DEVICE, passed through."""

    device: str


# The kinds of disks.  A new one is a structure here, a record in guix/pyguixvm/storage.scm with
# its JSON in evaluator/json.scm, how it is told apart from others and plugged in (plan/disks.py,
# apply/data_disk.py), and what a throwaway copy has instead (apply/trial.py).
Disk: TypeAlias = DataDisk | BlockDevice


class MountPoint(Declared, frozen=True):
    """The host's directory SOURCE, which the guest knows as TAG and mounts at TARGET."""

    source: str
    target: str | None
    tag: str
    driver: Literal["virtiofs", "9p"]
    read_only: bool


class AddressReady(Declared, frozen=True, tag_field="kind", tag="address"):
    """Ready when an address for a declared MAC address is seen."""


class TcpPortReady(Declared, frozen=True, tag_field="kind", tag="tcp-port"):
    """Ready when the guest accepts TCP connections to PORT."""

    port: int


class ConsoleReady(Declared, frozen=True, tag_field="kind", tag="console"):
    """Ready when a line on the serial console matches the regular expression PATTERN."""

    pattern: str


class GuestAgentReady(Declared, frozen=True, tag_field="kind", tag="guest-agent"):
    """Ready when the QEMU guest agent answers."""


# The signs that a guest is up.  A new one is a structure here, a form in
# guix/pyguixvm/readiness.scm, and how it is seen and called in plan/readiness.py; mypy names
# the places there.  What it takes to see it that is not there yet is a method of `Evidence`.
ReadyForm: TypeAlias = AddressReady | TcpPortReady | ConsoleReady | GuestAgentReady


class InXml(msgspec.Struct, frozen=True):
    """Where a plain field of `LibvirtDomain` stands in its domain's XML.

    AT is the way there from ``<domain>``: ``title`` is the text of that element, ``a/b/@c``
    an attribute; there is nothing where a field is None.  EFFECT is what a change takes of a
    running guest: nothing ("live"), or that it starts again.  ONE_LINE: libvirt refuses line
    breaks in it.  BOOLEANS are libvirt's words for false and true.
    """

    at: str
    effect: Literal["live", "restart"]
    one_line: bool = False
    booleans: tuple[str, str] = ("no", "yes")


# A plain field is one that only goes into the domain's XML and is compared with what stands
# there.  A new one is a line in `LibvirtDomain` with its `InXml`, and its clause in
# guix/pyguixvm/libvirt.scm: it is read from the evaluator, written, brought up to date,
# observed, compared and shown by that.  What means more than its XML (a resource that a
# running guest is given, a part of the root) is another matter: plan/drift.py compares it.
class LibvirtDomain(Declared, frozen=True):
    """The libvirt resources around an operating system."""

    cpu: int
    maximum_cpu: int
    memory: int
    maximum_memory: int
    storage: int
    networking: tuple[Networking, ...]
    kernel_arguments: tuple[str, ...]
    autostart: bool
    pool: str
    firmware: Literal["bios", "uefi"]
    virtualization: Literal["auto", "kvm", "qemu"]
    clock: Annotated[Literal["utc", "localtime"], InXml("clock/@offset", "restart")] = "utc"
    title: Annotated[str | None, InXml("title", "live", one_line=True)] = None
    description: Annotated[str | None, InXml("description", "live")] = None
    disks: tuple[Disk, ...] = ()
    mount_points: tuple[MountPoint, ...] = ()


class VirtualMachine(Declared, frozen=True):
    """One declared machine; HYPERVISOR is a libvirt URI, or None for the default one.

    PROTECT: nothing takes it away, or its root, unless the user says so each time.
    IGNORE_DRIFT are paths of differences, and of what is below them, that count for nothing
    where it is asked whether it is as declared.  REQUIRES are the names of machines that are
    made ready before, TAGS what it is called together with others.
    """

    name: str
    location: Location
    image: Image
    domain: LibvirtDomain
    ready: tuple[ReadyForm, ...]
    ready_timeout: int
    hypervisor: str | None = None
    protect: bool = False
    ignore_drift: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


class Caution(Declared, frozen=True):
    """What the user is warned of: it may be meant, but seldom is."""

    message: str
    hint: str | None = None
    location: Location | None = None

    def __str__(self) -> str:
        """In one line, with its place first."""
        where = f"{self.location}: " if self.location else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{where}{self.message}{hint}"


# What is declared beside machines, a network for example, would be another field here and of
# <deployment> in guix/pyguixvm/machine.scm; what there is of it, one of `Observation`, and what
# is to be done about it, one of `Plan`.
class Deployment(Declared, frozen=True):
    """Everything that the configuration file CONFIG declares.

    NAME is what its machines are known by as those of one deployment, wherever the
    file is; without one, nobody can tell which machines are not declared any more.
    WARNINGS are about anything in the file, whatever machines were asked for.  PROVENANCE is
    what it was evaluated with.  HYPERVISORS are the URIs of all machines in the file, too; None
    stands for that of machines that name none.
    """

    schema: int
    config: str
    machines: tuple[VirtualMachine, ...]
    name: str | None = None
    warnings: tuple[Caution, ...] = ()
    provenance: Provenance = Provenance()
    hypervisors: tuple[str | None, ...] = ()
