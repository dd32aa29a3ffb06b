# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of images that a machine's root is made from."""

from __future__ import annotations

from typing import ClassVar, Literal, TypeAlias

from pyguixvm.model.declared import Declared


class Derivation(Declared, frozen=True):
    """The file DERIVATION, and OUTPUT, the store item that it builds."""

    derivation: str
    output: str


class DirectBoot(Declared, frozen=True):
    """What a hypervisor starts by itself: KERNEL and INITRD are files in the store."""

    kernel: str
    initrd: str
    arguments: tuple[str, ...]


class ImageContent(Declared, frozen=True):
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


class SystemImage(Declared, frozen=True, tag_field="kind", tag="system"):
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


class LocalImage(Declared, frozen=True, tag_field="kind", tag="local-image"):
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


class RemoteImage(Declared, frozen=True, tag_field="kind", tag="remote-image"):
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


class SharedStore(Declared, frozen=True, tag_field="kind", tag="shared-store"):
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
