# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks and shared directories in a domain's XML.

https://libvirt.org/formatdomain.html#hard-drives-floppy-disks-cdroms and #filesystems.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec
from lxml import etree

from pyguixvm.model.declaration import MountPoint
from pyguixvm.xml.text import element, render


class BackingFile(msgspec.Struct, frozen=True):
    """A file under the root volume that is only read; STORE_ITEM if it lies in /gnu/store.

    PRIVATE: only its owner may read it, as a root volume, until libvirt lets QEMU in.
    """

    path: str
    format: Literal["raw", "qcow2"]
    store_item: bool
    private: bool = False


class AttachedDisk(msgspec.Struct, frozen=True):
    """A disk beside the root: the volume, or with BLOCK the device, at PATH.

    SERIAL is how the guest knows it, as ``/dev/disk/by-id/virtio-SERIAL``; a
    host's device keeps none.
    """

    path: str
    block: bool = False
    serial: str | None = None


def root_disk(
    path: str,
    disk_format: Literal["qcow2", "raw"],
    backing: tuple[BackingFile, ...],
    security_models: tuple[str, ...],
) -> etree._Element:
    """Return the root volume and the whole chain under it, so that libvirt guesses nothing."""
    return element(
        "disk",
        {"type": "file", "device": "disk"},
        element("driver", {"name": "qemu", "type": disk_format, "discard": "unmap"}),
        element("source", {"file": path}),
        _backing_store(backing, security_models),
        element("target", {"dev": "vda", "bus": "virtio"}),
    )


def further_disks(disks: tuple[AttachedDisk, ...]) -> Iterator[etree._Element]:
    """Yield DISKS, the first of them at vdb."""
    for index, disk in enumerate(disks, start=1):
        serial = () if disk.serial is None else (element("serial", disk.serial),)
        yield element(
            "disk",
            {"type": "block" if disk.block else "file", "device": "disk"},
            element(
                "driver",
                {"name": "qemu", "type": "raw" if disk.block else "qcow2", "discard": "unmap"},
            ),
            element("source", {"dev" if disk.block else "file": disk.path}),
            *(() if disk.block else (element("backingStore"),)),
            element("target", {"dev": target_name(index), "bus": "virtio"}),
            *serial,
        )


def parcel_disk_xml(path: str, serial: str) -> str:
    """Return a disk that a guest only reads, the file PATH, which it knows by SERIAL.

    It is the last one by its name: no disk that is declared has that.
    """
    return render(
        element(
            "disk",
            {"type": "file", "device": "disk"},
            element("driver", {"name": "qemu", "type": "raw"}),
            element("source", {"file": path}),
            element("backingStore"),
            element("target", {"dev": "vdzz", "bus": "virtio"}),
            element("readonly"),
            element("serial", serial),
        )
    )


def fence_disk(path: str) -> etree._Element:
    """Return a disk on the file PATH, which there is not: nobody can start a domain with it.

    It has the last name but one, see `parcel_disk_xml`.
    """
    return element(
        "disk",
        {"type": "file", "device": "disk"},
        element("driver", {"name": "qemu", "type": "raw"}),
        element("source", {"file": path}),
        element("backingStore"),
        element("target", {"dev": "vdzy", "bus": "virtio"}),
        element("readonly"),
    )


def target_name(index: int) -> str:
    """Return the name of the disk with INDEX, from 0 on: vda … vdz, vdaa …, as Linux has it."""
    letters = ""
    index += 1
    while index:
        index, letter = divmod(index - 1, 26)
        letters = chr(ord("a") + letter) + letters
    return f"vd{letters}"


def shared_directory(mount: MountPoint) -> etree._Element:
    """Return the device by which the guest sees MOUNT's directory.

    9p is mapped: what the guest says of owners is kept in extended
    attributes, since QEMU's user may not give files away.  Read-only, it has
    nothing to say, and mapped it would not see symbolic links: QEMU looks for
    them in what it has written itself (hw/9pfs/9p-local.c, local_readlink).
    """
    virtiofs = mount.driver == "virtiofs"
    mode = "passthrough" if virtiofs else "squash" if mount.read_only else "mapped"
    return element(
        "filesystem",
        {"type": "mount", "accessmode": mode},
        *((element("driver", {"type": "virtiofs"}),) if virtiofs else ()),
        element("source", {"dir": mount.source}),
        element("target", {"dir": mount.tag}),
        *((element("readonly"),) if mount.read_only else ()),
    )


def shared_memory() -> etree._Element:
    """Return the memory that virtiofs needs: the daemon on the host reads and writes it, too."""
    return element(
        "memoryBacking",
        element("source", {"type": "memfd"}),
        element("access", {"mode": "shared"}),
    )


def _backing_store(
    chain: tuple[BackingFile, ...], security_models: tuple[str, ...]
) -> etree._Element:
    """CHAIN as nested elements; the empty one at the end stops libvirt's probing."""
    if not chain:
        return element("backingStore")
    nearest, *rest = chain
    labels = [
        element("seclabel", {"model": model, "relabel": "no"})
        for model in security_models
        if _must_keep_label(nearest, model)
    ]
    return element(
        "backingStore",
        {"type": "file"},
        element("format", {"type": nearest.format}),
        element("source", {"file": nearest.path}, *labels),
        _backing_store(tuple(rest), security_models),
    )


def _must_keep_label(backing: BackingFile, model: str) -> bool:
    """Whether libvirt may not set BACKING's label of security MODEL.

    Libvirt gives backing files to QEMU's user and never gives them back: a
    store item must not change at all, and a base volume that many machines
    share is safer as root's.  SELinux however needs its label on a base
    volume; AppArmor's is a profile, not a property of the file.
    """
    if backing.private:
        return False
    return model == "dac" or (model == "selinux" and backing.store_item)
