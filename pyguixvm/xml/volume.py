# SPDX-License-Identifier: GPL-3.0-or-later
"""Volume XML (https://libvirt.org/formatstorage.html)."""

from __future__ import annotations

from typing import Literal

import msgspec

from pyguixvm.xml.text import element, parse, render


class VolumeDefinition(msgspec.Struct, frozen=True):
    """A volume to create: CAPACITY in bytes, nothing allocated, MODE as for chmod.

    OWNER is the number of the user whose it is to be, by default whoever makes it.
    """

    name: str
    capacity: int
    format: Literal["raw", "qcow2"] = "raw"
    mode: int = 0o600
    owner: int | None = None


def volume_xml(definition: VolumeDefinition) -> str:
    """Return the XML that creates DEFINITION, thin."""
    mode = element("mode", f"{definition.mode:04o}")
    owner = () if definition.owner is None else (element("owner", str(definition.owner)),)
    return render(
        element(
            "volume",
            {"type": "file"},
            element("name", definition.name),
            element("capacity", {"unit": "bytes"}, str(definition.capacity)),
            element("allocation", {"unit": "bytes"}, "0"),
            element(
                "target",
                element("format", {"type": definition.format}),
                element("permissions", mode, *owner),
            ),
        )
    )


def backing(xml: str) -> str | None:
    """Return the file name that the volume described by XML stands on, if there is one."""
    return parse(xml).findtext("backingStore/path")


class Described(msgspec.Struct, frozen=True):
    """A volume with the absolute file name PATH; sizes are bytes.

    PHYSICAL is the size of its file, and MODIFIED when that was written to last, None where
    libvirt does not know it.
    """

    path: str
    capacity: int
    allocation: int
    physical: int
    modified: str | None


def described(xml: str) -> Described:
    """Return the volume that XML describes."""
    volume = parse(xml)
    return Described(
        path=volume.findtext("target/path", ""),
        capacity=int(volume.findtext("capacity", "0")),
        allocation=int(volume.findtext("allocation", "0")),
        physical=int(volume.findtext("physical", "0")),
        modified=volume.findtext("target/timestamps/mtime"),
    )
