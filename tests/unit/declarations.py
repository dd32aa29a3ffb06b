# SPDX-License-Identifier: GPL-3.0-or-later
"""Declared machines for tests."""

from __future__ import annotations

from typing import Any

from pyguixvm.model.applied import Generation, Metadata
from pyguixvm.model.declaration import (
    AddressReady,
    LibvirtDomain,
    Location,
    Networking,
    VirtualMachine,
)
from pyguixvm.model.image import Derivation, ImageContent, SystemImage

GIB = 1024**3


def system(item: str = "a" * 32, **changes: Any) -> SystemImage:
    fields: dict[str, Any] = {
        "host_name": "web",
        "label": "GNU with Linux-Libre 6.17.12",
        "kernel": "linux-libre@6.17.12",
        "image_type": "mbr-hybrid-raw",
        "derivation": f"/gnu/store/{item}-disk-image.drv",
        "output": f"/gnu/store/{item}-disk-image",
        "system": f"/gnu/store/{item}-system.drv",
    }
    return SystemImage(**(fields | changes))


def content(item: str = "a", **changes: Any) -> ImageContent:
    """What fills the root of a system; its items in the store are named after ITEM."""
    fields: dict[str, Any] = {
        "layout": "mbr",
        "root_uuid": "0b0e3c4e-1fd6-4b6f-9f0e-6b1b3d6f2a11",
        "system": Derivation(f"/gnu/store/{item}-system.drv", f"/gnu/store/{item}-system"),
        "boot_configuration": Derivation(f"/gnu/store/{item}-cfg.drv", f"/gnu/store/{item}-cfg"),
        "boot_configuration_file": "/boot/grub/grub.cfg",
    }
    return ImageContent(**(fields | changes))


def domain(**changes: Any) -> LibvirtDomain:
    fields: dict[str, Any] = {
        "cpu": 1,
        "maximum_cpu": 1,
        "memory": GIB,
        "maximum_memory": GIB,
        "storage": 10 * GIB,
        "networking": (Networking(network="default", mac_address="52:54:00:ab:cd:ef"),),
        "kernel_arguments": (),
        "autostart": True,
        "pool": "default",
        "firmware": "bios",
        "virtualization": "auto",
    }
    return LibvirtDomain(**(fields | changes))


def machine(name: str = "web", **changes: Any) -> VirtualMachine:
    fields: dict[str, Any] = {
        "name": name,
        "location": Location(file="config.scm", line=3, column=1),
        "image": system(),
        "domain": domain(),
        "ready": (AddressReady(),),
        "ready_timeout": 120,
    }
    return VirtualMachine(**(fields | changes))


def deployed(declared: VirtualMachine, **fields: Any) -> Metadata:
    """Return what a machine remembers of its first generation, which was as DECLARED."""
    generation = Generation(
        number=1,
        date="2026-01-01T00:00:00+00:00",
        label="GNU",
        pool="default",
        volume="pyguixvm-web.g1.qcow2",
        image="/gnu/store/x",
        declaration=declared,
        **fields,
    )
    return Metadata(current=1, generations=(generation,))
