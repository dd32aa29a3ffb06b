# SPDX-License-Identifier: GPL-3.0-or-later
"""Domain XML, compared with golden files that stand beside the tests.

After a wanted change, PYGUIXVM_WRITE_GOLDEN=1 writes them anew.
"""

import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from pyguixvm.errors import EvaluationError
from pyguixvm.model.applied import Generation, Metadata
from pyguixvm.model.declaration import (
    AddressReady,
    LibvirtDomain,
    Location,
    MountPoint,
    Networking,
    VirtualMachine,
)
from pyguixvm.model.image import DirectBoot, SharedStore, SystemImage
from pyguixvm.xml.domain import SPARE_ROOT_PORTS, DomainDefinition, domain_xml
from pyguixvm.xml.storage import AttachedDisk, BackingFile, target_name
from pyguixvm.xml.text import parse

GOLDEN = Path(__file__).parent / "golden"
SCHEMA = Path("/usr/share/libvirt/schemas/domain.rng")
ITEM = "/gnu/store/0v2bxc6kxrrjdm9wyfqyxk9qh6dcl5wm-image.img"
GIB = 1024**3


def a_machine(name="web", **fields):
    domain = {
        "cpu": 1,
        "maximum_cpu": 1,
        "memory": GIB,
        "maximum_memory": GIB,
        "storage": 10 * GIB,
        "networking": (Networking(network="default", mac_address="52:54:00:12:34:56"),),
        "kernel_arguments": (),
        "autostart": True,
        "pool": "default",
        "firmware": "bios",
        "virtualization": "auto",
    } | fields
    return VirtualMachine(
        name=name,
        location=Location(file="config.scm", line=3, column=2),
        image=SystemImage(
            host_name=name, label="Guix", kernel="linux-libre", image_type="mbr-hybrid-raw"
        ),
        domain=LibvirtDomain(**domain),
        ready=(AddressReady(),),
        ready_timeout=120,
    )


def a_definition(machine=None, **fields):
    values = {
        "machine": machine or a_machine(),
        "root": "/var/lib/libvirt/images/pyguixvm-web.g1.qcow2",
        "backing": (BackingFile(path=ITEM, format="raw", store_item=True),),
        "domain_type": "qemu",
    } | fields
    return DomainDefinition(**values)


def some_metadata(machine):
    return Metadata(
        current=1,
        generations=(
            Generation(
                number=1,
                date="2026-01-31T12:00:00Z",
                label="first",
                pool="default",
                volume="pyguixvm-web.g1.qcow2",
                image=ITEM,
                declaration=machine,
            ),
        ),
    )


WEB = a_machine(
    cpu=2,
    maximum_cpu=8,
    memory=GIB + 1,
    maximum_memory=8 * GIB,
    title="Web & <mail>",
    description="two\nlines </description>",
    networking=(
        Networking(network="lan", mac_address="52:54:00:00:00:01"),
        Networking(network="dmz", mac_address="52:54:00:00:00:02"),
    ),
)

CASES = {
    "minimal": a_definition(),
    "kvm": a_definition(domain_type="kvm", uuid="b4b6ec31-4b41-4d0d-9a5a-3c1d1d3f9d2c"),
    "uefi": a_definition(a_machine(firmware="uefi")),
    "copied-base": a_definition(
        backing=(BackingFile(path="/pool/pyguixvm-0v2b.img", format="raw", store_item=False),)
    ),
    "no-backing": a_definition(backing=(), root_format="raw"),
    "chain-selinux": a_definition(
        backing=(
            BackingFile(path="/pool/pyguixvm-a.img", format="qcow2", store_item=False),
            BackingFile(path=ITEM, format="raw", store_item=True),
        ),
        security_models=("selinux", "dac"),
    ),
    "root-on-root": a_definition(
        root="/pool/pyguixvm-web.g2.qcow2",
        backing=(
            BackingFile(
                path="/pool/pyguixvm-web.g1.qcow2", format="qcow2", store_item=False, private=True
            ),
            BackingFile(path=ITEM, format="raw", store_item=True),
        ),
        security_models=("selinux", "dac"),
    ),
    "session": a_definition(security_models=()),
    "storage": a_definition(
        a_machine(
            mount_points=(
                MountPoint(
                    source="/srv/a&b", target="/a", tag="a", driver="virtiofs", read_only=False
                ),
                MountPoint(source="/srv", target=None, tag="ro", driver="9p", read_only=True),
            )
        ),
        disks=(
            AttachedDisk("/pool/pyguixvm-web.db.qcow2", serial="data-db"),
            AttachedDisk("/dev/disk/by-id/ata-1", block=True),
        ),
    ),
    "shared-store": a_definition(
        msgspec.structs.replace(
            a_machine(
                mount_points=(
                    MountPoint(
                        source="/gnu/store",
                        target="/gnu/store",
                        tag="pyguixvm-store",
                        driver="9p",
                        read_only=True,
                    ),
                )
            ),
            image=SharedStore(
                host_name="web",
                label="Guix",
                kernel="linux-libre",
                root_label="pyguixvm-root",
                boot=DirectBoot(
                    kernel="/gnu/store/k-linux/bzImage",
                    initrd="/gnu/store/s-system/initrd",
                    arguments=("root=pyguixvm-root", "gnu.load=/gnu/store/s-system/boot", "a<b"),
                ),
            ),
        ),
        backing=(),
    ),
    "rich": a_definition(WEB, metadata=some_metadata(WEB)),
}


@pytest.mark.parametrize("case", CASES)
def test_is_as_in_the_golden_file(case):
    golden = GOLDEN / f"domain-{case}.xml"
    xml = domain_xml(CASES[case])
    if os.environ.get("PYGUIXVM_WRITE_GOLDEN"):
        golden.write_text(xml)
    assert xml == golden.read_text()


def test_every_golden_file_belongs_to_a_case():
    assert {f.stem.removeprefix("domain-") for f in GOLDEN.glob("domain-*.xml")} == set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_libvirts_schema(case):
    schema = etree.RelaxNG(etree.parse(SCHEMA))
    schema.assertValid(parse(domain_xml(CASES[case])))


@pytest.mark.parametrize(
    ("index", "name"),
    [
        (0, "vda"),
        (1, "vdb"),
        (25, "vdz"),
        (26, "vdaa"),
        (27, "vdab"),
        (701, "vdzz"),
        (702, "vdaaa"),
    ],
)
def test_disks_are_called_as_linux_calls_them(index, name):
    assert target_name(index) == name


def test_keeps_libvirt_from_giving_a_store_item_to_qemus_user():
    disk = parse(domain_xml(a_definition())).find("devices/disk")
    label = disk.find(f"backingStore/source[@file='{ITEM}']/seclabel")
    assert dict(label.attrib) == {"model": "dac", "relabel": "no"}
    assert disk.find("source/seclabel") is None


@pytest.mark.parametrize("interfaces", [0, 1, 3])
def test_leaves_eight_root_ports_for_devices_plugged_in_later(interfaces):
    networking = tuple(
        Networking(network="default", mac_address=f"52:54:00:00:00:0{i}") for i in range(interfaces)
    )
    devices = parse(domain_xml(a_definition(a_machine(networking=networking)))).find("devices")
    ports = devices.findall("controller[@model='pcie-root-port']")
    disk, serial_bus, balloon, rng = 1, 1, 1, 1
    assert len(ports) - (interfaces + disk + serial_bus + balloon + rng) == SPARE_ROOT_PORTS == 8


def test_shows_nothing_to_anybody_but_has_what_grub_draws_on():
    devices = parse(domain_xml(a_definition())).find("devices")
    assert not {"graphics", "input", "sound"} & {device.tag for device in devices}
    assert devices.find("video/model").get("type") == "vga"


@pytest.mark.parametrize(
    ("size", "kib"), [(GIB, 1048576), (GIB + 1, 1048577), (1, 1), (1024, 1), (1025, 2)]
)
def test_memory_is_rounded_up_to_libvirts_unit(size, kib):
    xml = parse(domain_xml(a_definition(a_machine(memory=size, maximum_memory=size))))
    assert [xml.findtext("memory"), xml.findtext("currentMemory")] == [str(kib), str(kib)]


@given(text=st.text(alphabet=st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cn"))))
def test_what_the_user_writes_is_data_never_markup(text):
    xml = domain_xml(a_definition(a_machine(title=text, description=text)))
    root = parse(xml)
    assert [root.findtext("title"), root.findtext("description")] == [text, text]
    plain = parse(domain_xml(a_definition(a_machine(title="t", description="d"))))
    assert [e.tag for e in root.iter()] == [e.tag for e in plain.iter()]


@pytest.mark.parametrize(
    ("field", "text"),
    [("title", "bell\a"), ("description", "nul\0"), ("title", "two\nlines"), ("title", "\ufffe")],
)
def test_refuses_words_that_libvirt_cannot_store(field, text):
    with pytest.raises(EvaluationError) as refusal:
        domain_xml(a_definition(a_machine(**{field: text})))
    assert refusal.value.location == "config.scm:3:2"
    assert "machine 'web'" in refusal.value.message
    assert field in refusal.value.message
