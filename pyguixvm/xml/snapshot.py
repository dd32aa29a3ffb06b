# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshot XML (https://libvirt.org/formatsnapshot.html)."""

from __future__ import annotations

from lxml import etree

from pyguixvm.xml.text import element, parse, render

# The disk that every guest of ours boots from.
_ROOT = "vda"


def snapshot_xml(domain: str, path: str) -> str:
    """Return the XML that puts the qcow2 file PATH on the root of the DOMAIN described by XML.

    Its other disks are named as well: libvirt takes them along unless told otherwise.
    """
    targets = parse(domain).iterfind("devices/disk/target")
    return render(
        element(
            "domainsnapshot",
            element("disks", *(_disk(target.get("dev", ""), path) for target in targets)),
        )
    )


def _disk(name: str, path: str) -> etree._Element:
    if name != _ROOT:
        return element("disk", {"name": name, "snapshot": "no"})
    return element(
        "disk",
        {"name": name, "snapshot": "external"},
        element("driver", {"type": "qcow2"}),
        element("source", {"file": path}),
    )


def root_of(domain: str) -> str | None:
    """Return the file that the root of the DOMAIN described by XML is written to, if any."""
    for disk in parse(domain).iterfind("devices/disk"):
        target, source = disk.find("target"), disk.find("source")
        if target is not None and target.get("dev") == _ROOT and source is not None:
            return source.get("file")
    return None
