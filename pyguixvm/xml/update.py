# SPDX-License-Identifier: GPL-3.0-or-later
"""A changed definition: what is declared replaced, everything else left as it is.

What libvirt added (addresses, the UUID, NVRAM) and what others changed stays: a
guest finds its devices where they were.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from copy import deepcopy
from itertools import count
from pathlib import PurePosixPath

import msgspec
from lxml import etree

from pyguixvm.model.observation import HostPart
from pyguixvm.model.volume_names import generation_of, is_ours
from pyguixvm.xml import plain_fields
from pyguixvm.xml.inspection import agent_channel, has_console, is_uefi, source_name
from pyguixvm.xml.storage import target_name
from pyguixvm.xml.text import parse, render

# Elements of <domain> that are declared as a whole, beside its plain fields.
_WHOLE = ("memory", "currentMemory", "vcpu")
# What libvirt adds to a device, and the guest sees.
_KEPT = ("address", "alias")


class Removed(msgspec.Struct, frozen=True):
    """Devices that were declared and are no longer.

    INTERFACES by MAC address, DISKS of the host by file name, DIRECTORIES by tag.
    Volumes of ours need no telling: their names do.
    """

    interfaces: frozenset[str] = frozenset()
    disks: frozenset[str] = frozenset()
    directories: frozenset[str] = frozenset()


_NOTHING = Removed()


def updated_xml(
    old: str, new: str, removed: Removed = _NOTHING, lost: Collection[HostPart] = ()
) -> str:
    """Return the domain XML OLD, as libvirt gives it, with what the domain XML NEW declares.

    The devices REMOVED go, and what the host LOST.
    """
    domain, declared = parse(old), parse(new)
    _give_up(domain, declared, lost)
    plain_fields.replace(domain, declared)
    _replace_settings(domain, declared)
    _replace_firmware(domain, declared)
    _replace_direct_boot(domain, declared)
    if declared.find("memoryBacking") is not None:
        _replace(domain, declared, "memoryBacking")
    if domain.get("type") != declared.get("type"):
        domain.set("type", declared.get("type", ""))
        _replace(domain, declared, "cpu")
    devices, wanted = domain.find("devices"), declared.find("devices")
    if devices is None or wanted is None:
        raise ValueError("a domain has devices")
    _replace_disks(devices, wanted, removed.disks)
    _replace_devices(devices, wanted, _by_mac, removed.interfaces)
    _replace_devices(devices, wanted, _by_tag, removed.directories)
    _add_lines(domain, declared)
    return render(domain)


def _give_up(domain: etree._Element, declared: etree._Element, lost: Collection[HostPart]) -> None:
    """Have libvirt choose anew for DOMAIN what its host LOST; the variables of UEFI stay."""
    emulator, os = domain.find("devices/emulator"), domain.find("os")
    if "emulator" in lost and emulator is not None:
        _devices(domain).remove(emulator)
    if os is None:
        return
    kind, wanted = os.find("type"), declared.find("os/type")
    if "machine-type" in lost and kind is not None and wanted is not None:
        kind.set("machine", wanted.get("machine", ""))
    if "firmware" in lost:
        os.set("firmware", "efi")
        for loader in os.findall("loader"):
            os.remove(loader)
        for variables in os.findall("nvram"):
            variables.attrib.pop("template", "")


def _add_lines(domain: etree._Element, declared: etree._Element) -> None:
    """Give DOMAIN the console and the agent's channel of DECLARED, if it has none of any kind."""
    devices = _devices(domain)
    if not has_console(domain):
        devices.extend(deepcopy(each) for each in _devices(declared).iterfind("serial"))
        devices.extend(deepcopy(each) for each in _devices(declared).iterfind("console"))
    channel = agent_channel(declared)
    if channel is not None and agent_channel(domain) is None:
        devices.append(deepcopy(channel))


def interface_xml(domain_xml: str, mac: str) -> str | None:
    """Return the element of the interface with address MAC, or None."""
    found = _by_mac(_devices(parse(domain_xml))).get(mac)
    return None if found is None else etree.tostring(found, encoding="unicode", with_tail=False)


def disk_xml(domain_xml: str, source: str) -> str | None:
    """Return the element of the disk at SOURCE, a device or the name of a volume, or None."""
    for disk in _devices(parse(domain_xml)).findall("disk"):
        if source in {_path(disk), PurePosixPath(_path(disk)).name}:
            return etree.tostring(disk, encoding="unicode", with_tail=False)
    return None


def disk_target(domain_xml: str, path: str) -> str | None:
    """Return the name, vdb for example, of the disk at PATH in DOMAIN_XML, or None."""
    for disk in _devices(parse(domain_xml)).findall("disk"):
        if _path(disk) == path:
            return _target(disk)
    return None


def reconnected_interface(live: str, defined: str) -> str:
    """Return the interface LIVE with source and link of DEFINED, both elements.

    Nothing else of a plugged interface can be changed, its place for example.
    """
    interface, model = parse(live), parse(defined)
    for tag in ("source", "link"):
        _replace(interface, model, tag)
    return etree.tostring(interface, encoding="unicode")


def placed(device: str, domain_xml: str) -> str:
    """Return the element DEVICE with an address that is free in the running domain of DOMAIN_XML.

    It keeps the one that it is defined with, unless something has been plugged in there;
    then libvirt is to choose.
    """
    element = parse(device)
    address = element.find("address")
    if address is not None:
        taken = _devices(parse(domain_xml)).iterfind("*/address")
        if any(sorted(each.items()) == sorted(address.items()) for each in taken):
            element.remove(address)
    return etree.tostring(element, encoding="unicode")


def _devices(domain: etree._Element) -> etree._Element:
    devices = domain.find("devices")
    if devices is None:
        raise ValueError("a domain has devices")
    return devices


def _replace(domain: etree._Element, declared: etree._Element, tag: str) -> None:
    """Make DOMAIN's element TAG that of DECLARED, which may have none."""
    old, new = domain.find(tag), declared.find(tag)
    if old is not None and new is not None:
        domain.replace(old, deepcopy(new))
    elif old is not None:
        domain.remove(old)
    elif new is not None:
        # Libvirt reads the children of <domain> in any order.
        domain.append(deepcopy(new))


def _replace_settings(domain: etree._Element, declared: etree._Element) -> None:
    if domain.findtext("vcpu") != declared.findtext("vcpu") or _current(domain) != _current(
        declared
    ):
        # Which of the old number of vCPUs are plugged in.
        _remove(domain, domain.find("vcpus"))
    for tag in _WHOLE:
        _replace(domain, declared, tag)
    holder = declared.find("metadata")
    if holder is None:
        return
    target = domain.find("metadata")
    if target is None:
        target = etree.SubElement(domain, "metadata")
    for ours in holder:
        for old in target.findall(ours.tag):
            target.remove(old)
        target.append(deepcopy(ours))


def _current(domain: etree._Element) -> str | None:
    vcpu = domain.find("vcpu")
    return None if vcpu is None else vcpu.get("current")


def _remove(parent: etree._Element, child: etree._Element | None) -> None:
    if child is not None:
        parent.remove(child)


def _replace_firmware(domain: etree._Element, declared: etree._Element) -> None:
    """Replace <os> if the kind of firmware changed: a loader and its NVRAM go together."""
    if is_uefi(domain) != is_uefi(declared):
        _replace(domain, declared, "os")


def _replace_direct_boot(domain: etree._Element, declared: etree._Element) -> None:
    """Have the hypervisor start what DECLARED says; without a kernel it starts from disk.

    A kernel that is no store item is somebody else's, and stays.
    """
    old, new = domain.find("os"), declared.find("os")
    if old is None or new is None:
        return
    ours = (old.findtext("kernel") or "").startswith("/gnu/store/")
    if ours or new.find("kernel") is not None:
        for tag in ("kernel", "initrd", "cmdline"):
            _replace(old, new, tag)


def _replace_disks(
    devices: etree._Element, wanted: etree._Element, removed: Collection[str]
) -> None:
    """Bring our disks in line: the root, and those on volumes of ours or in REMOVED.

    A disk that stays keeps the name by which it has been plugged in.
    """
    declared = {_identity(disk): disk for disk in wanted.findall("disk")}
    there = devices.findall("disk")
    for disk in there:
        new = declared.pop(_identity(disk), None)
        if new is not None:
            devices.replace(disk, _with_target(_with_kept(new, disk), _target(disk)))
        elif _on_our_volume(disk) or _path(disk) in removed:
            devices.remove(disk)
    taken = {_target(disk) for disk in devices.findall("disk")}
    free = (name for name in _target_names() if name not in taken)
    for disk in declared.values():
        name = _target(disk) if _target(disk) not in taken else next(free)
        taken.add(name)
        devices.append(_with_target(deepcopy(disk), name))


def _identity(disk: etree._Element) -> str:
    """Return what tells DISK from the others of its domain; the root has many volumes in time."""
    name = PurePosixPath(_path(disk)).name
    if _target(disk) == target_name(0) or generation_of(name):
        return "root"
    return name if is_ours(name) else _path(disk)


def _target_names() -> Iterator[str]:
    return (target_name(index) for index in count(1))


def _with_target(disk: etree._Element, name: str) -> etree._Element:
    target = disk.find("target")
    if target is not None:
        target.set("dev", name)
    return disk


def _target(disk: etree._Element) -> str:
    target = disk.find("target")
    return "" if target is None else target.get("dev", "")


def _path(disk: etree._Element) -> str:
    source = disk.find("source")
    return "" if source is None else source_name(source)


def _on_our_volume(disk: etree._Element) -> bool:
    return is_ours(PurePosixPath(_path(disk)).name)


def _with_kept(new: etree._Element, old: etree._Element) -> etree._Element:
    device = deepcopy(new)
    for tag in _KEPT:
        kept = old.find(tag)
        if kept is not None and device.find(tag) is None:
            device.append(deepcopy(kept))
    return device


def _replace_devices(
    devices: etree._Element,
    wanted: etree._Element,
    by_key: Callable[[etree._Element], dict[str, etree._Element]],
    removed: Collection[str],
) -> None:
    """Bring the DEVICES that BY_KEY finds in line with those WANTED; the keys REMOVED go."""
    there = by_key(devices)
    for key, new in by_key(wanted).items():
        old = there.get(key)
        if old is None:
            devices.append(deepcopy(new))
        else:
            devices.replace(old, _with_kept(new, old))
    for key in removed:
        _remove(devices, there.get(key))


def _by_tag(devices: etree._Element) -> dict[str, etree._Element]:
    return {_tag(each): each for each in devices.findall("filesystem")}


def _tag(directory: etree._Element) -> str:
    target = directory.find("target")
    return "" if target is None else target.get("dir", "")


def _by_mac(devices: etree._Element) -> dict[str, etree._Element]:
    return {
        mac.get("address", "").lower(): interface
        for interface in devices.findall("interface")
        if (mac := interface.find("mac")) is not None
    }
