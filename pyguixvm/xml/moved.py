# SPDX-License-Identifier: GPL-3.0-or-later
"""The definition of a domain on another hypervisor: as it was, on the files that are there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import PurePosixPath

import msgspec
from lxml import etree

from pyguixvm.model.applied import Metadata
from pyguixvm.model.observation import HostPart
from pyguixvm.xml.domain import EMULATOR_MACHINE
from pyguixvm.xml.metadata import metadata_element
from pyguixvm.xml.storage import fence_disk
from pyguixvm.xml.text import parse, render

# Not called as our volumes are: who does not know of it takes those for its own to remove.
_FENCE = "fence-of-pyguixvm"


class Place(msgspec.Struct, frozen=True):
    """Where a domain is to be: FILES are its files there by what they were called.

    SECURITY_MODELS are those of the host there, and LOST what that has not.  DIRECTORY is that
    of its pool.  VARIABLES are the file of those of its firmware; None where libvirt has them.
    """

    files: Mapping[str, str]
    security_models: tuple[str, ...]
    directory: str
    lost: tuple[HostPart, ...] = ()
    variables: str | None = None


def moved_xml(xml: str, place: Place, metadata: Metadata) -> str:
    """Return domain XML with all its files in PLACE, which remembers METADATA.

    If that says that it is fenced, it has a disk that does not exist: libvirt starts no such
    domain, neither for us nor for anybody else.
    """
    domain = parse(xml)
    for disk in domain.iterfind("devices/disk"):
        for layer in disk.iter("disk", "backingStore"):
            _move(layer, place)
    if place.variables is not None:
        _keep_variables(domain, place.variables)
    _choose_anew(domain, place.lost)
    _remember(domain, metadata)
    if metadata.arrival is not None and metadata.arrival.fenced:
        _devices(domain).append(fence_disk(f"{place.directory}/{_fence(metadata)}"))
    return render(domain)


def unfenced_xml(xml: str, metadata: Metadata) -> str:
    """Return domain XML, as `moved_xml` made it, so that it can be started."""
    domain = parse(xml)
    fence = _fence(metadata)
    devices = _devices(domain)
    for disk in devices.findall("disk"):
        source = disk.find("source")
        if source is not None and PurePosixPath(source.get("file") or "").name == fence:
            devices.remove(disk)
    _remember(domain, metadata)
    return render(domain)


def _fence(metadata: Metadata) -> str:
    return f"{metadata.machine}.{_FENCE}"


def _move(layer: etree._Element, place: Place) -> None:
    """Have LAYER, a disk or what one stands on, be in PLACE."""
    source = layer.find("source")
    file = None if source is None else place.files.get(source.get("file") or "")
    if source is None or file is None:
        return
    source.set("file", file)
    for label in source.findall("seclabel"):
        if label.get("model") not in place.security_models:
            source.remove(label)


def _keep_variables(domain: etree._Element, file: str) -> None:
    """Have the firmware of DOMAIN keep its variables in FILE."""
    os = domain.find("os")
    if os is not None:
        kept = os.find("nvram")
        if kept is None:
            kept = etree.SubElement(os, "nvram")
        for source in kept.findall("source"):
            kept.remove(source)
        kept.attrib.pop("type", "file")
        kept.text = file


def _choose_anew(domain: etree._Element, lost: Collection[HostPart]) -> None:
    """Have libvirt choose for DOMAIN what the host LOST."""
    emulator, os = domain.find("devices/emulator"), domain.find("os")
    if "emulator" in lost and emulator is not None:
        _devices(domain).remove(emulator)
    kind = None if os is None else os.find("type")
    if "machine-type" in lost and kind is not None:
        kind.set("machine", EMULATOR_MACHINE)
    if "firmware" in lost and os is not None:
        os.set("firmware", "efi")
        for part in (*os.findall("loader"), *os.findall("nvram")):
            os.remove(part)


def _remember(domain: etree._Element, metadata: Metadata) -> None:
    """Have DOMAIN remember METADATA instead of what it does."""
    kept, new = domain.find("metadata"), metadata_element(metadata)
    if kept is None:
        kept = etree.SubElement(domain, "metadata")
    for old in kept.findall(new.tag):
        kept.remove(old)
    kept.append(new)


def _devices(domain: etree._Element) -> etree._Element:
    devices = domain.find("devices")
    if devices is None:
        raise ValueError("a domain has devices")
    return devices
