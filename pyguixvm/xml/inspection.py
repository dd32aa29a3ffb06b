# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read out of XML that libvirt gives."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from lxml import etree

from pyguixvm.model.declaration import Networking
from pyguixvm.model.observation import (
    Hardware,
    ObservedDisk,
    ObservedInterface,
    SharedDirectory,
    Snapshot,
)
from pyguixvm.xml import plain_fields
from pyguixvm.xml.text import parse, render

_UNITS = {"b": 1, "bytes": 1, "KiB": 1024, "k": 1024, "MiB": 1024**2, "GiB": 1024**3}

# How a disk is called whose definition names pool and volume.
VOLUME_DISK = "volume "
_AGENT = "org.qemu.guest_agent.0"


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
    stacks = tuple(_stacks(root))
    vcpu = root.find("vcpu")
    maximum_cpu = 1 if vcpu is None else int(vcpu.text or 1)
    variables = root.find("os/nvram")
    channel = agent_channel(root)
    return Hardware(
        cpu=maximum_cpu if vcpu is None else int(vcpu.get("current") or maximum_cpu),
        maximum_cpu=maximum_cpu,
        memory=maximum_memory if current is None else _bytes(current),
        maximum_memory=maximum_memory,
        domain_type=root.get("type", ""),
        firmware="uefi" if is_uefi(root) else "bios",
        interfaces=tuple(_interface(each) for each in root.findall("devices/interface")),
        disks=tuple(disk.source for disk in stacks),
        stacks=stacks,
        plain=plain_fields.read(root),
        directories=tuple(_directory(each) for each in root.findall("devices/filesystem")),
        emulator=root.findtext("devices/emulator"),
        machine_type=_machine_type(root),
        loader=root.findtext("os/loader"),
        console=has_console(root),
        agent_channel=channel is not None,
        agent_listens=_is_connected(channel),
        host_devices=tuple(map(_host_device, root.findall("devices/hostdev"))),
        tpm=root.find("devices/tpm/backend[@type='emulator']") is not None,
        variables="file" if variables is None else variables.get("type", "file"),
    )


def _host_device(device: etree._Element) -> str:
    """Return, in words, which one of its host's DEVICE is."""
    places = device.iterfind("source/*")
    where = " ".join(f"{key!s}={value!s}" for place in places for key, value in place.items())
    return f"{device.get('type', 'unknown')} {where}".strip()


def _machine_type(domain: etree._Element) -> str | None:
    kind = domain.find("os/type")
    return None if kind is None else kind.get("machine")


def has_console(domain: etree._Element) -> bool:
    """Whether DOMAIN has a serial line, or a console of another kind."""
    return domain.find("devices/serial") is not None or domain.find("devices/console") is not None


def agent_channel(domain: etree._Element) -> etree._Element | None:
    """Return the channel of DOMAIN for a guest agent, if it has one."""
    return next(filter(_is_of_agent, domain.iterfind("devices/channel")), None)


def _is_of_agent(channel: etree._Element) -> bool:
    target = channel.find("target")
    return target is not None and target.get("name") == _AGENT


def is_uefi(domain: etree._Element) -> bool:
    """Whether DOMAIN starts by UEFI firmware: libvirt is to choose it, or it is named."""
    os = domain.find("os")
    return os is not None and (os.get("firmware") == "efi" or os.find("loader") is not None)


def variables_file(domain: etree._Element) -> str | None:
    """Return in which file the firmware of DOMAIN keeps its variables; None if that is not said."""
    kept = domain.find("os/nvram")
    if kept is None:
        return None
    source = kept.find("source")
    named = kept.text if source is None else source.get("file")
    return (named or "").strip() or None


def _stacks(domain: etree._Element) -> Iterator[ObservedDisk]:
    """Yield the disks of DOMAIN that have something in them."""
    for disk in domain.findall("devices/disk"):
        source, target = disk.find("source"), disk.find("target")
        if source is not None:
            yield ObservedDisk(
                source=source_name(source),
                target="" if target is None else target.get("dev", ""),
                serial=disk.findtext("serial"),
                below=_below(disk),
            )


def source_name(source: etree._Element) -> str:
    """Return what SOURCE of a disk is: the name of a file or device, else in words."""
    name = source.get("file") or source.get("dev")
    if name:
        return name
    if source.get("pool"):
        return f"{VOLUME_DISK}{source.get('pool')}/{source.get('volume')}"
    kinds = (source.get(key) for key in ("protocol", "type", "dir"))
    host = source.find("host")
    where = "" if host is None else host.get("name") or host.get("socket") or ""
    return " ".join(each for each in (*kinds, source.get("name"), where) if each) or "unknown"


def _below(disk: etree._Element) -> tuple[str, ...] | None:
    """Return what DISK stands on; None unless it is said to the end.

    Libvirt finds out what is not said when the domain starts.
    """
    found: list[str] = []
    layer = disk.find("backingStore")
    while layer is not None:
        source = layer.find("source")
        if source is None:
            return tuple(found)
        found.append(source_name(source))
        layer = layer.find("backingStore")
    return None


def inspect_snapshot(xml: str) -> Snapshot:
    """Read the XML of a snapshot that libvirt gave."""
    root = parse(xml)
    held = [*root.findall("domain"), *root.findall("inactiveDomain")]
    layers = root.findall("disks/disk[@snapshot='external']/source")
    return Snapshot(
        name=root.findtext("name", default=""),
        disks=tuple(dict.fromkeys(disk.source for domain in held for disk in _stacks(domain))),
        layers=tuple(source_name(source) for source in layers),
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


def network_interfaces(domain: etree._Element) -> tuple[Networking, ...]:
    """Return the interfaces of DOMAIN that libvirt's networks connect."""
    return tuple(
        Networking(network=source.get("network", ""), mac_address=mac.get("address", "").lower())
        for interface in domain.findall("devices/interface")
        if (source := interface.find("source")) is not None
        and source.get("network")
        and (mac := interface.find("mac")) is not None
    )


def named_files(xml: str) -> frozenset[str]:
    """Return the files and devices that the domain of XML names as sources of its devices.

    Backing files and the other end of a block job are among them, as far as XML says.
    """
    found = (source.get(key) for source in parse(xml).iter("source") for key in ("file", "dev"))
    return frozenset(file for file in found if file)


def named_volumes(xml: str) -> frozenset[tuple[str, str]]:
    """Return pool and name of the volumes that the domain of XML names as sources."""
    return frozenset(
        (source.get("pool", ""), source.get("volume", ""))
        for source in parse(xml).iter("source")
        if source.get("pool") and source.get("volume")
    )


def has_agent(domain: etree._Element) -> bool:
    """Whether DOMAIN, which runs, has a guest agent connected to its channel."""
    return _is_connected(agent_channel(domain))


def _is_connected(channel: etree._Element | None) -> bool:
    target = None if channel is None else channel.find("target")
    return target is not None and target.get("state") == "connected"


def gives_leases(network_xml: str) -> bool:
    """Whether libvirt itself runs a DHCP server on the network of NETWORK_XML."""
    return parse(network_xml).find("ip/dhcp") is not None


def network_definition(network_xml: str) -> str:
    """Return NETWORK_XML without how many guests are connected at the moment."""
    network = parse(network_xml)
    for each in network.iter("*"):
        each.attrib.pop("connections", "")
    return render(network)
