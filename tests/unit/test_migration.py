# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes with a machine to another hypervisor, and which machines cannot go."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from declarations import deployed, domain, machine
from test_planner import applied, hardware, hypervisor, observed, plan

from pyguixvm.errors import RequestRefusedError
from pyguixvm.model.applied import Generation, Merging
from pyguixvm.model.arrival import Arrival
from pyguixvm.model.declaration import BlockDevice
from pyguixvm.model.hypervisor import Hypervisor
from pyguixvm.model.image import SharedStore
from pyguixvm.model.observation import (
    MIGRATED,
    BlockJob,
    Host,
    ObservedDisk,
    ObservedDomain,
    SharedDirectory,
    Snapshot,
)
from pyguixvm.plan.migration import require_movable, require_place, root_layers
from pyguixvm.xml.inspection import inspect_domain, variables_file
from pyguixvm.xml.moved import Place, moved_xml, unfenced_xml
from pyguixvm.xml.text import parse

MERGING = Merging("default", ("pyguixvm-web.g2.qcow2", "pyguixvm-web.g1.qcow2"))
TO = "qemu+ssh://b/system"
ROOT = "pyguixvm-web.g1.qcow2"
SOURCE = Hypervisor("1", "a", "QEMU", "/system")
FENCED = Arrival(uri="qemu+ssh://a/system", source=SOURCE, volumes=(), fenced=True)


def off(**changes: Any) -> ObservedDomain:
    return observed(**({"state": "shut off", "autostart": False} | changes))


def test_layers_come_after_what_they_stand_on_and_once() -> None:
    first = applied()
    second = msgspec.structs.replace(
        first.generation, number=2, volume="pyguixvm-web.g2.qcow2", under=(ROOT,), base="base.img"
    )
    found = root_layers(msgspec.structs.replace(first.having(second), current=2))
    assert [(each.volume, each.below) for each in found] == [
        (ROOT, None),
        ("pyguixvm-web.g2.qcow2", ROOT),
    ]


def test_what_is_ours_alone_can_go() -> None:
    require_movable(off(), TO)
    require_movable(observed(), TO)
    # Libvirt brings what a TPM keeps with a guest that runs.
    require_movable(observed(defined=hardware(tpm=True)), TO)


def test_a_tpm_is_seen() -> None:
    for backend, seen in (("emulator", True), ("passthrough", False)):
        tpm = f"<tpm model='tpm-crb'><backend type='{backend}'/></tpm></devices>"
        assert inspect_domain(XML.replace("</devices>", tpm)).hardware.tpm == seen


def test_of_which_kind_variables_are_is_seen() -> None:
    for kind in ("file", "network", "block"):
        xml = XML.replace("<nvram>", f"<nvram type='{kind}'>")
        assert inspect_domain(xml).hardware.variables == kind
    assert inspect_domain(XML).hardware.variables == "file"


HOST_DEVICE = hardware(host_devices=("pci domain=0x0000 bus=0x06",))
DIRECTORY = hardware(directories=(SharedDirectory("share", "/srv", "9p", read_only=True),))
FOREIGN = hardware(stacks=(ObservedDisk("/srv/their.qcow2", "vdc", None, ()),))
IN_A_NETWORK = hardware(firmware="uefi", variables="network")
DEVICE = domain(disks=(BlockDevice(device="/dev/sdz"),))
STORE = SharedStore(host_name="web", label="GNU", kernel="linux", root_label="root")


@pytest.mark.parametrize(
    ("there", "words"),
    [
        (off(defined=HOST_DEVICE), "passed-through device pci domain=0x0000 bus=0x06"),
        (off(defined=DIRECTORY), "directory /srv (9p)"),
        (observed(live=DIRECTORY), "directory /srv (9p)"),
        (off(defined=FOREIGN), "disk /srv/their.qcow2, which pyguixvm did not make"),
        (off(defined=IN_A_NETWORK), "variables of firmware of type 'network'"),
        (off(metadata=applied(domain=DEVICE)), "device /dev/sdz"),
        (off(snapshots=(Snapshot("before"),)), "has 1 snapshot: before"),
        (off(saved=True), "the memory of 'web' is kept"),
        (off(reason=MIGRATED), "was migrated away"),
        (observed(jobs=(BlockJob("vda", "copy"),)), "a copy of disk vda"),
        (off(metadata=None), "was not made by pyguixvm"),
        (off(metadata=msgspec.structs.replace(applied(), arrival=FENCED)), "on its way here from"),
        (off(defined=hardware(tpm=True)), "has an emulated TPM"),
        (observed(metadata=msgspec.structs.replace(applied(), merging=MERGING)), "being merged"),
    ],
)
def test_what_cannot_go_is_told_before_anything_is_touched(
    there: ObservedDomain, words: str
) -> None:
    with pytest.raises(RequestRefusedError) as refused:
        require_movable(there, TO)
    assert words in refused.value.message
    assert refused.value.hint


NETWORKS = Host(networks=("default",))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"domains": {"web": off()}}, "'web' is on both hypervisors"),
        ({"domains": {"web": off(uuid="1" * 36)}}, "there is another 'web'"),
        ({"pools": {"default": (ROOT,)}}, f"a volume '{ROOT}' in pool 'default'"),
        ({"host": Host(networks=("lan",))}, "is on network 'default', which test:///default does"),
        ({"host": Host(memory=1024, networks=("default",))}, "is to have (memory"),
        (
            {"domains": {"x": off(name="x", metadata=None, uuid="2" * 36)}},
            "MAC address 52:54:00:ab:cd:ef of 'web' is in use",
        ),
    ],
)
def test_a_host_that_cannot_take_it_is_told_before_anything_is_touched(
    changes: dict[str, Any], words: str
) -> None:
    free = msgspec.structs.replace(hypervisor(), host=NETWORKS)
    sent = [("default", ROOT)]
    require_place(applied(), off(), free, sent)
    with pytest.raises(RequestRefusedError) as refused:
        require_place(applied(), off(), msgspec.structs.replace(free, **changes), sent)
    assert words in refused.value.message
    assert refused.value.hint


def test_a_machine_on_its_way_is_not_changed_where_it_comes_to() -> None:
    arriving = msgspec.structs.replace(applied(), arrival=FENCED)
    (made,) = plan(
        [machine(domain=domain(cpu=2, maximum_cpu=2))], hypervisor(off(metadata=arriving))
    ).machines
    assert made.actions == ()
    assert "is on its way here from qemu+ssh://a/system" in (made.refusal or "")


XML = """<domain type='qemu'><name>web</name><uuid>u</uuid>
<metadata><other xmlns='urn:other'/></metadata>
<os><type machine='pc-q35-99'>hvm</type><loader>/gnu/store/ovmf</loader><nvram>x</nvram></os>
<devices><emulator>/gnu/store/qemu</emulator>
<disk type='file' device='disk'><source file='/a/root'><seclabel model='selinux'/></source>
<backingStore type='file'><source file='/a/base'><seclabel model='dac'/></source><backingStore/>
</backingStore><target dev='vda'/></disk>
<disk type='file' device='disk'><source file='/srv/x'/><target dev='vdb'/></disk>
</devices></domain>"""


def test_the_definition_is_as_it_was_on_other_files_and_behind_a_fence() -> None:
    files = {"/a/root": "/b/root", "/a/base": "/b/base"}
    place = Place(files, ("dac",), "/b", ("emulator", "machine-type", "firmware"))
    metadata = msgspec.structs.replace(deployed(machine()), arrival=FENCED)
    xml = moved_xml(XML, place, metadata)
    fence = "/b/web.fence-of-pyguixvm"
    assert inspect_domain(xml).hardware.disks == ("/b/root", "/srv/x", fence)
    assert inspect_domain(xml).hardware.stacks[0].below == ("/b/base",)
    assert "model='selinux'" not in xml.replace('"', "'")
    assert "model='dac'" in xml.replace('"', "'")
    for gone in ("/gnu/store/qemu", "pc-q35-99", "/gnu/store/ovmf", "nvram"):
        assert gone not in xml
    assert "urn:other" in xml
    free = unfenced_xml(xml, msgspec.structs.replace(metadata, arrival=None))
    assert inspect_domain(free).hardware.disks == ("/b/root", "/srv/x")
    assert "fence" not in free


def test_variables_that_a_source_names_are_where_they_are_to_be() -> None:
    place = Place({}, (), "/b", variables="/b/v")
    named = "<nvram type='file' template='/t'><source file='/a/v'><seclabel/></source></nvram>"
    for before in ("<nvram>x</nvram>", "", named):
        xml = moved_xml(XML.replace("<nvram>x</nvram>", before), place, deployed(machine()))
        assert variables_file(parse(xml)) == "/b/v"
        assert "/a/v" not in xml
        assert "type='file'" not in xml.partition("nvram")[2].partition(">")[0].replace('"', "'")


def test_a_generation_that_runs_from_the_store_of_its_host_keeps_a_machine_there() -> None:
    shared = machine(image=STORE)
    first = applied()
    second: Generation = msgspec.structs.replace(first.generation, number=2, declaration=shared)
    with pytest.raises(RequestRefusedError, match="the store of its host"):
        require_movable(off(metadata=first.having(second)), TO)
