# SPDX-License-Identifier: GPL-3.0-or-later
"""What a configuration declares, as the evaluator reports it.

These structures are the Python side of the JSON that
``guix/pyguixvm/evaluator/json.scm`` writes.  Keys are in the words of the Scheme
records; sizes are bytes.  Unknown keys are refused, and SCHEMA tells apart
versions that do not understand each other.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, TypeAlias

import msgspec

from pyguixvm.model.provenance import Provenance

SCHEMA = 1


class _Declared(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """Common options: immutable, strict, keys spelled as in Scheme."""


class Location(_Declared, frozen=True):
    """A place in the user's Scheme; LINE counts from 1, COLUMN from 0 as Guix does."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        """``file:line:column``, as editors and compilers spell it."""
        return f"{self.file}:{self.line}:{self.column}"


class Derivation(_Declared, frozen=True):
    """The file DERIVATION, and OUTPUT, the store item that it builds."""

    derivation: str
    output: str


class DirectBoot(_Declared, frozen=True):
    """What a hypervisor starts by itself: KERNEL and INITRD are files in the store."""

    kernel: str
    initrd: str
    arguments: tuple[str, ...]


class ImageContent(_Declared, frozen=True):
    """What fills the root partition of a Guix System image.

    Images of one LAYOUT, a digest, differ in nothing else.  ROOT_UUID is that
    of the root file system; BOOT_CONFIGURATION is copied to
    BOOT_CONFIGURATION_FILE there.  BOOT starts the system without a boot loader; None where
    that was not noted.  ASSEMBLED makes an image that equals Guix's in less
    time; it is None where there is no such way.
    """

    layout: str
    root_uuid: str
    system: Derivation
    boot_configuration: Derivation
    boot_configuration_file: str
    boot: DirectBoot | None = None
    assembled: Derivation | None = None


class SystemImage(_Declared, frozen=True, tag_field="kind", tag="system"):
    """A Guix System image made from an ``operating-system``, or declared as an ``image``.

    IMAGE_TYPE is Guix's name for how it is made of the operating system, None
    for an ``image``.  ROOT_FILE_SYSTEM is what its root partition holds.
    DERIVATION is the image's ``.drv`` and OUTPUT what it builds; SYSTEM is
    the ungrafted derivation of the operating system itself, and CONTENT what is
    in the image.  They are None where the evaluation was not asked for them.  Not GRAFTED:
    DERIVATION, OUTPUT and CONTENT are as without grafts, since what they are with them is not
    known before something is built.
    """

    host_name: str
    label: str
    kernel: str
    image_type: Literal["mbr-hybrid-raw", "efi-raw"] | None
    root_file_system: Literal["ext4", "btrfs"] = "ext4"
    derivation: str | None = None
    output: str | None = None
    system: str | None = None
    content: ImageContent | None = None
    grafted: bool = True

    made_by_guix: ClassVar[bool] = True
    disk_format: ClassVar[Literal["raw"]] = "raw"

    @property
    def file(self) -> str:
        """The file name of the disk image, empty where the evaluation was not asked for it."""
        return self.output or ""


class LocalImage(_Declared, frozen=True, tag_field="kind", tag="local-image"):
    """A disk image that exists already, at the absolute file name PATH.

    SIZE (bytes) and MODIFIED (seconds since the epoch) are the file's when it was
    evaluated, so that a changed file is a changed declaration.
    """

    path: str
    format: Literal["qcow2", "raw"]
    size: int
    modified: int

    made_by_guix: ClassVar[bool] = False
    kernel: ClassVar[None] = None

    @property
    def label(self) -> str:
        """What it is called."""
        return self.path

    @property
    def file(self) -> str:
        """The file name of the disk image."""
        return self.path

    @property
    def disk_format(self) -> Literal["qcow2", "raw"]:
        """What the disk image is to QEMU."""
        return self.format


class RemoteImage(_Declared, frozen=True, tag_field="kind", tag="remote-image"):
    """A disk image that URL leads to, which has the SHA-256 digest SHA256 (hexadecimal).

    PATH is where it is, or is to be, on this machine; empty where nobody needs to know.
    """

    url: str
    sha256: str
    format: Literal["qcow2", "raw"]
    path: str = ""

    made_by_guix: ClassVar[bool] = False
    kernel: ClassVar[None] = None

    @property
    def label(self) -> str:
        """What it is called."""
        return self.url

    @property
    def file(self) -> str:
        """The file name of the disk image."""
        return self.path

    @property
    def disk_format(self) -> Literal["qcow2", "raw"]:
        """What the disk image is to QEMU."""
        return self.format


class SharedStore(_Declared, frozen=True, tag_field="kind", tag="shared-store"):
    """No image: an ``operating-system`` that runs from the store of its host.

    Its root is an ext4 with ROOT_LABEL.  SYSTEM is the operating system, which BOOT
    starts, and UNGRAFTED its derivation without grafts; they are None where the evaluation
    was not asked for them.  GRAFTED is as for a `SystemImage`.
    """

    host_name: str
    label: str
    kernel: str
    root_label: str
    system: Derivation | None = None
    boot: DirectBoot | None = None
    ungrafted: str | None = None
    grafted: bool = True

    made_by_guix: ClassVar[bool] = True
    disk_format: ClassVar[Literal["raw"]] = "raw"
    file: ClassVar[str] = ""


# The kinds of images.  A new one is a structure here, with what all of them tell (label,
# kernel, the disk image's file and disk_format, and whether Guix made it, so that it mounts
# what is declared); a module in guix/pyguixvm/system/ and a line in its image-kinds.scm; a module
# in plan/strategies/ and a line in choose.py there; its words in cli/show.py and
# plan/in_words.py; and, if its root volume is made in a way of its own, a module in apply/
# and a line in its task.py.
Image: TypeAlias = SystemImage | LocalImage | RemoteImage | SharedStore


class Networking(_Declared, frozen=True):
    """One virtio interface, connected to the libvirt network NETWORK."""

    network: str
    mac_address: str


class DataDisk(_Declared, frozen=True, tag_field="kind", tag="data-disk"):
    """A volume of SIZE bytes that outlives the root, formatted once with FILE_SYSTEM.

    The operating system mounts it at TARGET; None leaves that to the guest.
    """

    name: str
    size: int
    file_system: Literal["ext4", "btrfs"]
    target: str | None


class BlockDevice(_Declared, frozen=True, tag_field="kind", tag="block-device"):
    """The host's disk with the file name DEVICE, passed through."""

    device: str


# The kinds of disks.  A new one is a structure here, a record in guix/pyguixvm/storage.scm with
# its JSON in evaluator/json.scm, how it is told apart from others and plugged in (plan/disks.py,
# apply/data_disk.py), and what a throwaway copy has instead (apply/trial.py).
Disk: TypeAlias = DataDisk | BlockDevice


class MountPoint(_Declared, frozen=True):
    """The host's directory SOURCE, which the guest knows as TAG and mounts at TARGET."""

    source: str
    target: str | None
    tag: str
    driver: Literal["virtiofs", "9p"]
    read_only: bool


class AddressReady(_Declared, frozen=True, tag_field="kind", tag="address"):
    """Ready when an address for a declared MAC address is seen."""


class TcpPortReady(_Declared, frozen=True, tag_field="kind", tag="tcp-port"):
    """Ready when the guest accepts TCP connections to PORT."""

    port: int


class ConsoleReady(_Declared, frozen=True, tag_field="kind", tag="console"):
    """Ready when a line on the serial console matches the regular expression PATTERN."""

    pattern: str


class GuestAgentReady(_Declared, frozen=True, tag_field="kind", tag="guest-agent"):
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
class LibvirtDomain(_Declared, frozen=True):
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


class VirtualMachine(_Declared, frozen=True):
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


class Caution(_Declared, frozen=True):
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
class Deployment(_Declared, frozen=True):
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
