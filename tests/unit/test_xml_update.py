# SPDX-License-Identifier: GPL-3.0-or-later
"""A definition that is changed in place: ours follows, the rest stays."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from declarations import GIB, domain, machine
from lxml import etree

from pyguixvm.model.declaration import MountPoint, Networking
from pyguixvm.model.image import DirectBoot, SharedStore
from pyguixvm.xml.domain import DomainDefinition, domain_xml
from pyguixvm.xml.storage import AttachedDisk
from pyguixvm.xml.text import parse
from pyguixvm.xml.update import (
    Removed,
    disk_target,
    disk_xml,
    interface_xml,
    placed,
    reconnected_interface,
    updated_xml,
)

MAC = "52:54:00:ab:cd:ef"
OTHER = "52:54:00:00:00:02"
ADDRESS = "<address type='pci' domain='0x0000' bus='0x07' slot='0x00' function='0x0'/>"


def declared(root="/pool/pyguixvm-web.g1.qcow2", kind="qemu", disks=(), **fields):
    return domain_xml(
        DomainDefinition(
            machine=machine(domain=domain(**fields)),
            root=root,
            backing=(),
            domain_type=kind,
            disks=disks,
        )
    )


def as_libvirt_has_it(xml):
    """Return XML with what libvirt, and others, have added to it."""
    root = parse(xml)
    etree.SubElement(root, "uuid").text = "11111111-2222-3333-4444-555555555555"
    root.append(etree.fromstring("<metadata><x:y xmlns:x='urn:others'>theirs</x:y></metadata>"))
    devices = root.find("devices")
    for device in [*devices.findall("interface"), *devices.findall("disk")]:
        device.append(etree.fromstring(ADDRESS))
    theirs = "<disk type='file'><source file='/srv/theirs.img'/><target dev='vdz'/></disk>"
    devices.append(etree.fromstring(theirs))
    devices.append(etree.fromstring("<hostdev mode='subsystem' type='usb'/>"))
    return etree.tostring(root, encoding="unicode")


def changed(removed=(), **new):
    return parse(
        updated_xml(
            as_libvirt_has_it(declared()), declared(**new), Removed(interfaces=frozenset(removed))
        )
    )


@pytest.mark.parametrize(
    ("fields", "path", "expected"),
    [
        ({"memory": 2 * GIB, "maximum_memory": 4 * GIB}, "memory", str(4 * GIB // 1024)),
        ({"memory": 2 * GIB, "maximum_memory": 4 * GIB}, "currentMemory", str(2 * GIB // 1024)),
        ({"cpu": 2, "maximum_cpu": 4}, "vcpu", "4"),
        ({"title": "Web"}, "title", "Web"),
        ({}, "uuid", "11111111-2222-3333-4444-555555555555"),
        ({}, "metadata/{urn:others}y", "theirs"),
    ],
)
def test_what_is_declared_follows(fields: dict[str, Any], path: str, expected: str):
    assert changed(**fields).findtext(path) == expected


def test_a_title_that_is_not_declared_any_more_goes():
    old = as_libvirt_has_it(declared(title="Web"))
    assert parse(updated_xml(old, declared())).find("title") is None


def test_a_clock_changes_with_what_went_with_it_and_keeps_its_timers():
    old = as_libvirt_has_it(declared()).replace(
        'offset="utc"', 'offset="timezone" timezone="Europe/Berlin"'
    )
    clock = parse(updated_xml(old, declared(clock="localtime"))).find("clock")
    assert dict(clock.attrib) == {"offset": "localtime"}
    assert len(clock) == 3


def test_what_others_gave_to_a_clock_stays_while_it_is_as_declared():
    old = as_libvirt_has_it(declared()).replace('offset="utc"', 'offset="utc" adjustment="60"')
    clock = parse(updated_xml(old, declared())).find("clock")
    assert dict(clock.attrib) == {"offset": "utc", "adjustment": "60"}


def test_the_root_disk_changes_and_stays_where_it_is_plugged_in():
    disks = changed(root="/pool/pyguixvm-web.g2.qcow2").findall("devices/disk")
    sources = [disk.find("source").get("file") for disk in disks]
    assert sources == ["/pool/pyguixvm-web.g2.qcow2", "/srv/theirs.img"]
    assert disks[0].find("address").get("bus") == "0x07"


def test_devices_of_others_stay():
    assert changed().find("devices/hostdev") is not None


def interfaces(xml):
    return [
        (
            interface.find("mac").get("address"),
            interface.find("source").get("network"),
            interface.find("address") is not None,
        )
        for interface in xml.findall("devices/interface")
    ]


def test_interfaces_come_change_and_go_by_their_addresses():
    lan = Networking(network="lan", mac_address=MAC)
    new = Networking(network="default", mac_address=OTHER)
    assert interfaces(changed(networking=(lan, new))) == [
        (MAC, "lan", True),
        (OTHER, "default", False),
    ]
    assert interfaces(changed((MAC,), networking=())) == []


def test_an_interface_that_is_not_declared_and_never_was_stays():
    assert interfaces(changed(networking=())) == [(MAC, "default", True)]


def test_another_kind_of_virtualization_has_another_cpu():
    root = changed(kind="kvm")
    assert root.get("type") == "kvm"
    assert root.find("cpu").get("mode") == "host-passthrough"


def test_other_firmware_takes_its_loader_along():
    assert changed(firmware="uefi").find("os").get("firmware") == "efi"
    old = parse(as_libvirt_has_it(declared(firmware="uefi")))
    etree.SubElement(old.find("os"), "loader").text = "/usr/share/OVMF/OVMF_CODE.fd"
    xml = etree.tostring(old, encoding="unicode")
    assert parse(updated_xml(xml, declared(firmware="uefi"))).find("os/loader") is not None
    assert parse(updated_xml(xml, declared())).find("os/loader") is None


def test_the_same_declaration_changes_nothing():
    once = updated_xml(as_libvirt_has_it(declared()), declared())
    assert updated_xml(once, declared()) == once


def test_a_plugged_interface_changes_its_network_only():
    live = interface_xml(as_libvirt_has_it(declared()), MAC)
    lan = interface_xml(declared(networking=(Networking(network="lan", mac_address=MAC),)), MAC)
    new = parse(reconnected_interface(live, lan))
    assert new.find("source").get("network") == "lan"
    assert new.find("address").get("bus") == "0x07"
    assert interface_xml(declared(), OTHER) is None


DB = AttachedDisk("/pool/pyguixvm-web.db.qcow2", serial="data-db")
LOG = AttachedDisk("/pool/pyguixvm-web.log.qcow2", serial="data-log")
HOST = AttachedDisk("/dev/disk/by-id/ata-1", block=True)
THEIRS = "/srv/theirs.img"


def disks_of(xml):
    found = {}
    for disk in parse(xml).findall("devices/disk"):
        source = disk.find("source")
        found[disk.find("target").get("dev")] = source.get("file") or source.get("dev")
    return found


@pytest.mark.parametrize(
    ("before", "after", "removed", "expected"),
    [
        ((), (DB, HOST), (), {"vdb": DB.path, "vdc": HOST.path}),
        ((DB, LOG), (LOG,), (), {"vdc": LOG.path}),
        ((DB, HOST), (DB,), (HOST.path,), {"vdb": DB.path}),
        ((DB, HOST), (DB,), (), {"vdb": DB.path, "vdc": HOST.path}),
        ((DB,), (LOG, DB), (), {"vdb": DB.path, "vdc": LOG.path}),
    ],
)
def test_disks_come_and_go_and_keep_their_names(before, after, removed, expected):
    old = as_libvirt_has_it(declared(disks=before))
    xml = updated_xml(old, declared(disks=after), Removed(disks=frozenset(removed)))
    root = "/pool/pyguixvm-web.g1.qcow2"
    assert disks_of(xml) == {"vda": root, "vdz": THEIRS} | expected


def test_a_disk_gets_a_name_that_nobody_else_has():
    old = as_libvirt_has_it(declared()).replace("vdz", "vdb")
    assert disks_of(updated_xml(old, declared(disks=(DB,))))["vdc"] == DB.path


def test_a_disk_that_stays_keeps_its_place():
    old = as_libvirt_has_it(declared(disks=(DB,)))
    xml = updated_xml(old, declared(root="/pool/pyguixvm-web.g2.qcow2", disks=(DB,)))
    assert [bool(disk.findall("address")) for disk in parse(xml).findall("devices/disk")] == [
        True,
        True,
        False,
    ]
    assert disks_of(xml)["vda"] == "/pool/pyguixvm-web.g2.qcow2"


def test_a_disk_is_found_by_its_device_or_its_volume():
    xml = declared(disks=(DB, HOST))
    assert "data-db" in disk_xml(xml, "pyguixvm-web.db.qcow2")
    assert "type='block'" in disk_xml(xml, HOST.path).replace('"', "'")
    assert disk_xml(xml, "pyguixvm-web.log.qcow2") is None
    assert disk_target(xml, DB.path) == "vdb"
    assert disk_target(xml, "/elsewhere") is None


def test_directories_come_and_go():
    share = MountPoint(source="/a", target="/a", tag="a", driver="virtiofs", read_only=False)
    with_share = declared(mount_points=(share,))
    xml = updated_xml(as_libvirt_has_it(declared()), with_share)
    assert parse(xml).find("memoryBacking/access").get("mode") == "shared"
    assert parse(xml).find("devices/filesystem/source").get("dir") == "/a"
    moved = declared(mount_points=(msgspec.structs.replace(share, source="/b"),))
    xml = updated_xml(xml, moved)
    assert parse(xml).find("devices/filesystem/source").get("dir") == "/b"
    left = parse(updated_xml(xml, declared(), Removed(directories=frozenset({"a"}))))
    assert left.find("devices/filesystem") is None
    assert parse(updated_xml(xml, declared())).find("devices/filesystem") is not None


STORE = MountPoint(
    source="/gnu/store", target="/gnu/store", tag="pyguixvm-store", driver="9p", read_only=True
)


def from_the_shared_store(system):
    image = SharedStore(
        host_name="web",
        label="Guix",
        kernel="linux-libre",
        root_label="pyguixvm-root",
        boot=DirectBoot(
            kernel="/gnu/store/k-linux/bzImage",
            initrd=f"{system}/initrd",
            arguments=("root=pyguixvm-root", f"gnu.system={system}"),
        ),
    )
    return domain_xml(
        DomainDefinition(
            machine=machine(image=image, domain=domain(mount_points=(STORE,))),
            root="/pool/pyguixvm-web.g2.qcow2",
            backing=(),
            domain_type="qemu",
        )
    )


def started(xml):
    """Return what the domain of XML starts, and the directories that it sees."""
    root = parse(xml)
    assert root.find("os/type").get("machine") == "pc-q35-7.2"
    return (
        [root.findtext(f"os/{tag}") for tag in ("kernel", "initrd", "cmdline")],
        [source.get("dir") for source in root.findall("devices/filesystem/source")],
    )


def test_the_shared_store_comes_changes_and_goes():
    gone = Removed(directories=frozenset({"pyguixvm-store"}))
    from_disk = as_libvirt_has_it(declared()).replace('machine="q35"', 'machine="pc-q35-7.2"')
    one = updated_xml(from_disk, from_the_shared_store("/gnu/store/one"))
    two = updated_xml(one, from_the_shared_store("/gnu/store/two"))
    back = updated_xml(two, declared(), gone)

    def expected(system):
        return (
            [
                "/gnu/store/k-linux/bzImage",
                f"{system}/initrd",
                f"root=pyguixvm-root gnu.system={system}",
            ],
            ["/gnu/store"],
        )

    assert started(one) == expected("/gnu/store/one")
    assert started(two) == expected("/gnu/store/two")
    assert started(back) == ([None, None, None], [])


def test_a_kernel_that_somebody_else_put_there_stays():
    there = as_libvirt_has_it(declared())
    xml = there.replace("<boot dev=", "<kernel>/boot/vmlinuz</kernel><boot dev=")
    kernel = parse(updated_xml(xml, declared())).findtext("os/kernel")
    assert kernel == "/boot/vmlinuz"


def test_a_device_is_plugged_in_where_it_is_defined_unless_something_is_there():
    address = "<address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/>"
    device = f"<interface type='network'><model type='virtio'/>{address}</interface>"
    there = "<domain><devices><disk>{}</disk><interface/></devices></domain>"
    elsewhere = address.replace("0x01", "0x02")
    assert parse(placed(device, there.format(elsewhere))).find("address").get("bus") == "0x01"
    moved = parse(placed(device, there.format(address)))
    assert moved.find("address") is None
    assert moved.find("model") is not None


def test_what_the_host_lost_is_given_up_and_nothing_else():
    old = as_libvirt_has_it(declared()).replace('machine="q35"', 'machine="pc-q35-2.4"')
    old = old.replace("<devices>", "<devices><emulator>/gnu/store/old-qemu</emulator>")
    assert "pc-q35-2.4" in old
    for lost, machine_type, emulator in (
        ((), "pc-q35-2.4", "/gnu/store/old-qemu"),
        (("emulator",), "pc-q35-2.4", None),
        (("emulator", "machine-type"), "q35", None),
    ):
        found = parse(updated_xml(old, declared(), lost=lost))
        assert found.find("os/type").get("machine") == machine_type
        assert found.findtext("devices/emulator") == emulator


def test_firmware_that_the_host_lost_is_chosen_anew_and_its_variables_stay():
    old = as_libvirt_has_it(declared(firmware="uefi"))
    firmware = (
        "<loader readonly='yes' type='pflash'>/gnu/store/old-ovmf/CODE.fd</loader>"
        "<nvram template='/gnu/store/old-ovmf/VARS.fd'>/var/lib/web_VARS.fd</nvram></os>"
    )
    old = old.replace("</os>", firmware)
    os = parse(updated_xml(old, declared(firmware="uefi"), lost=("firmware",))).find("os")
    assert (os.get("firmware"), os.find("loader")) == ("efi", None)
    assert (os.findtext("nvram"), dict(os.find("nvram").attrib)) == ("/var/lib/web_VARS.fd", {})
