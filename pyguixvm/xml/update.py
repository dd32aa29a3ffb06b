# SPDX-License-Identifier: GPL-3.0-or-later
"""A changed definition: what is declared replaced, everything else left as it is.

What libvirt added (addresses, the UUID, NVRAM) and what others changed stays: a
guest finds its devices where they were.
"""

from __future__ import annotations

from collections.abc import Collection
from copy import deepcopy
from pathlib import PurePosixPath

from lxml import etree

from pyguixvm.model.names import is_ours
from pyguixvm.xml.text import parse, render

# Elements of <domain> that are declared as a whole.
_WHOLE = ("title", "description", "memory", "currentMemory", "vcpu")
# What libvirt adds to a device, and the guest sees.
_KEPT = ("address", "alias")


def updated_xml(old: str, new: str, removed_macs: Collection[str] = ()) -> str:
    """Return the domain XML OLD, as libvirt gives it, with what the domain XML NEW declares.

    The interfaces with one of REMOVED_MACS go.
    """
    domain, declared = parse(old), parse(new)
    _replace_settings(domain, declared)
    _replace_firmware(domain, declared)
    if domain.get("type") != declared.get("type"):
        domain.set("type", declared.get("type", ""))
        _replace(domain, declared, "cpu")
    devices, wanted = domain.find("devices"), declared.find("devices")
    if devices is None or wanted is None:
        raise ValueError("a domain has devices")
    _replace_disks(devices, wanted)
    _replace_interfaces(devices, wanted, removed_macs)
    return render(domain)


def interface_xml(domain_xml: str, mac: str) -> str | None:
    """Return the element of the interface with address MAC, or None."""
    found = _by_mac(_devices(parse(domain_xml))).get(mac)
    return None if found is None else etree.tostring(found, encoding="unicode", with_tail=False)


def reconnected_interface(live: str, defined: str) -> str:
    """Return the interface LIVE with source and link of DEFINED, both elements.

    Nothing else of a plugged interface can be changed, its place for example.
    """
    interface, model = parse(live), parse(defined)
    for tag in ("source", "link"):
        _replace(interface, model, tag)
    return etree.tostring(interface, encoding="unicode")


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
        # libvirt reads the children of <domain> in any order.
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
    if _is_uefi(domain) != _is_uefi(declared):
        _replace(domain, declared, "os")


def _is_uefi(domain: etree._Element) -> bool:
    os = domain.find("os")
    return os is not None and (os.get("firmware") == "efi" or os.find("loader") is not None)


def _replace_disks(devices: etree._Element, wanted: etree._Element) -> None:
    """Bring our disks in line: those at a declared target, and those on volumes of ours."""
    declared = {_target(disk): disk for disk in wanted.findall("disk")}
    for disk in devices.findall("disk"):
        new = declared.pop(_target(disk), None)
        if new is not None:
            devices.replace(disk, _with_kept(new, disk))
        elif _on_our_volume(disk):
            devices.remove(disk)
    for disk in declared.values():
        devices.append(deepcopy(disk))


def _target(disk: etree._Element) -> str:
    target = disk.find("target")
    return "" if target is None else target.get("dev", "")


def _on_our_volume(disk: etree._Element) -> bool:
    source = disk.find("source")
    return source is not None and is_ours(PurePosixPath(source.get("file", "")).name)


def _with_kept(new: etree._Element, old: etree._Element) -> etree._Element:
    device = deepcopy(new)
    for tag in _KEPT:
        kept = old.find(tag)
        if kept is not None and device.find(tag) is None:
            device.append(deepcopy(kept))
    return device


def _replace_interfaces(
    devices: etree._Element, wanted: etree._Element, removed: Collection[str]
) -> None:
    there = _by_mac(devices)
    for mac, new in _by_mac(wanted).items():
        old = there.get(mac)
        if old is None:
            devices.append(deepcopy(new))
        else:
            devices.replace(old, _with_kept(new, old))
    for mac in removed:
        _remove(devices, there.get(mac))


def _by_mac(devices: etree._Element) -> dict[str, etree._Element]:
    return {
        mac.get("address", "").lower(): interface
        for interface in devices.findall("interface")
        if (mac := interface.find("mac")) is not None
    }
