# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read out of XML that libvirt gives."""

from __future__ import annotations

import msgspec
from lxml import etree

from pyguixvm.model.deployment import Networking
from pyguixvm.model.observation import Hardware, ObservedInterface, SharedDirectory
from pyguixvm.xml.text import parse

_UNITS = {"b": 1, "bytes": 1, "KiB": 1024, "k": 1024, "MiB": 1024**2, "GiB": 1024**3}


class InspectedDomain(msgspec.Struct, frozen=True):
    """Parts of a domain's XML; ROOT is the element itself, for `read_metadata`."""

    name: str
    uuid: str
    hardware: Hardware
    root: etree._Element


def inspect_domain(xml: str) -> InspectedDomain:
    """Read the domain XML that libvirt gave."""
    root = parse(xml)
    return InspectedDomain(
        name=root.findtext("name", default=""),
        uuid=root.findtext("uuid", default=""),
        hardware=_hardware(root),
        root=root,
    )


def _hardware(root: etree._Element) -> Hardware:
    maximum = root.find("memory")
    current = root.find("currentMemory")
    maximum_memory = 0 if maximum is None else _bytes(maximum)
    vcpu = root.find("vcpu")
    maximum_cpu = 1 if vcpu is None else int(vcpu.text or 1)
    return Hardware(
        cpu=maximum_cpu if vcpu is None else int(vcpu.get("current") or maximum_cpu),
        maximum_cpu=maximum_cpu,
        memory=maximum_memory if current is None else _bytes(current),
        maximum_memory=maximum_memory,
        domain_type=root.get("type", ""),
        interfaces=tuple(_interface(each) for each in root.findall("devices/interface")),
        disks=tuple(
            file
            for source in root.findall("devices/disk/source")
            if (file := source.get("file") or source.get("dev"))
        ),
        title=root.findtext("title"),
        description=root.findtext("description"),
        directories=tuple(_directory(each) for each in root.findall("devices/filesystem")),
    )


def _interface(element: etree._Element) -> ObservedInterface:
    mac, source, link = (element.find(tag) for tag in ("mac", "source", "link"))
    return ObservedInterface(
        mac_address="" if mac is None else mac.get("address", "").lower(),
        network=None if source is None else source.get("network"),
        link=link is None or link.get("state") != "down",
    )


def _directory(element: etree._Element) -> SharedDirectory:
    driver, source, target = (element.find(tag) for tag in ("driver", "source", "target"))
    return SharedDirectory(
        tag="" if target is None else target.get("dir", ""),
        source="" if source is None else source.get("dir", ""),
        # libvirt's default, "path", is QEMU's 9p.
        driver="virtiofs" if driver is not None and driver.get("type") == "virtiofs" else "9p",
        read_only=element.find("readonly") is not None,
    )


def _bytes(element: etree._Element) -> int:
    return int(element.text or 0) * _UNITS[element.get("unit", "KiB")]


def network_interfaces(xml: str) -> tuple[Networking, ...]:
    """Return the interfaces of the domain of XML that libvirt's networks connect."""
    return tuple(
        Networking(network=source.get("network", ""), mac_address=mac.get("address", "").lower())
        for interface in parse(xml).findall("devices/interface")
        if (source := interface.find("source")) is not None
        and source.get("network")
        and (mac := interface.find("mac")) is not None
    )


def disk_files(xml: str) -> frozenset[str]:
    """Return the files and devices of all disks of the domain of XML, those below them included."""
    sources = parse(xml).iterfind("devices/disk//source")
    return frozenset(file for each in sources if (file := each.get("file") or each.get("dev")))


def has_agent(xml: str) -> bool:
    """Whether the running domain of XML has a guest agent connected to its channel."""
    targets = parse(xml).findall("devices/channel/target")
    return any(
        target.get("name") == "org.qemu.guest_agent.0" and target.get("state") == "connected"
        for target in targets
    )


def gives_leases(network_xml: str) -> bool:
    """Whether libvirt itself runs a DHCP server on the network of NETWORK_XML."""
    return parse(network_xml).find("ip/dhcp") is not None
