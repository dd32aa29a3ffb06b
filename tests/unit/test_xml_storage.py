# SPDX-License-Identifier: GPL-3.0-or-later
"""Volume and pool XML, and what is read out of what libvirt gives."""

import os
from pathlib import Path

import pytest
from lxml import etree

from pyguixvm.xml.inspection import (
    gives_leases,
    has_agent,
    inspect_domain,
    network_definition,
)
from pyguixvm.xml.pool import directory_pool_xml, pool_path
from pyguixvm.xml.text import parse
from pyguixvm.xml.volume import VolumeDefinition, volume_xml

GOLDEN = Path(__file__).parent / "golden"
SCHEMAS = Path("/usr/share/libvirt/schemas")

CASES = {
    "volume-root": volume_xml(VolumeDefinition(name="pyguixvm-web.g1.qcow2", capacity=12345)),
    "volume-base": volume_xml(
        VolumeDefinition(name="pyguixvm-x&y.img", capacity=1, format="qcow2", mode=0o400, owner=108)
    ),
    "pool": directory_pool_xml("fast <ssd>", "/srv/a & b"),
}
SCHEMA_OF = {
    "volume-root": "storagevol.rng",
    "volume-base": "storagevol.rng",
    "pool": "storagepool.rng",
}


@pytest.mark.parametrize("case", CASES)
def test_is_as_in_the_golden_file(case):
    golden = GOLDEN / f"{case}.xml"
    if os.environ.get("PYGUIXVM_WRITE_GOLDEN"):
        golden.write_text(CASES[case])
    assert CASES[case] == golden.read_text()


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_libvirts_schema(case):
    schema = etree.RelaxNG(etree.parse(SCHEMAS / SCHEMA_OF[case]))
    schema.assertValid(parse(CASES[case]))


def test_a_pools_directory_is_read_back_as_written():
    assert pool_path(directory_pool_xml("p", "/srv/a & b")) == "/srv/a & b"


@pytest.mark.parametrize(
    ("xml", "memory", "cpu"),
    [
        ("<memory unit='KiB'>8</memory><currentMemory unit='KiB'>4</currentMemory>", 4096, 1),
        ("<memory>8</memory>", 8192, 1),
        ("<memory unit='GiB'>2</memory><vcpu current='2'>8</vcpu>", 2 * 1024**3, 2),
        ("<memory unit='bytes'>7</memory><vcpu>8</vcpu>", 7, 8),
    ],
)
def test_memory_and_cpus_are_those_that_the_domain_boots_with(xml, memory, cpu):
    domain = inspect_domain(f"<domain><name>n</name><uuid>u</uuid>{xml}</domain>")
    assert (domain.name, domain.uuid) == ("n", "u")
    assert (domain.hardware.memory, domain.hardware.cpu) == (memory, cpu)


def test_disks_are_files_and_devices_without_what_backs_them():
    disks = """<domain><devices>
      <disk><source file='/a'/><backingStore><source file='/base'/></backingStore></disk>
      <disk type='block'><source dev='/dev/sda'/></disk>
      <disk device='cdrom'/>
    </devices></domain>"""
    assert inspect_domain(disks).hardware.disks == ("/a", "/dev/sda")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("<target name='org.qemu.guest_agent.0' state='connected'/>", True),
        ("<target name='org.qemu.guest_agent.0' state='disconnected'/>", False),
        ("<target name='org.qemu.guest_agent.0'/>", False),
        ("<target name='com.redhat.spice.0' state='connected'/>", False),
    ],
)
def test_an_agent_is_there_when_its_channel_is_connected(target, expected):
    xml = f"<domain><devices><channel>{target}</channel></devices></domain>"
    assert has_agent(parse(xml)) is expected


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ("<ip address='10.0.0.1'><dhcp><range start='10.0.0.2' end='10.0.0.9'/></dhcp></ip>", True),
        ("<ip address='10.0.0.1'/>", False),
        ("<forward mode='bridge'/><bridge name='br0'/>", False),
    ],
)
def test_leases_are_given_where_libvirt_runs_the_dhcp_server(network, expected):
    assert gives_leases(f"<network><name>n</name>{network}</network>") is expected


@pytest.mark.parametrize("xml", ["", "<open>", "no xml"])
def test_broken_xml_is_a_value_error(xml):
    with pytest.raises(ValueError, match="not well-formed"):
        parse(xml)


def test_entities_are_not_expanded(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    xml = f"<!DOCTYPE d [<!ENTITY e SYSTEM 'file://{secret}'>]><d>&e;</d>"
    assert "secret" not in "".join(parse(xml).itertext())


def test_a_network_is_the_same_whoever_is_connected() -> None:
    def network(connected: str, name: str = "eth0") -> str:
        interface = f"<interface dev='{name}'{connected}/>"
        return f"<network{connected}><forward mode='bridge'>{interface}</forward></network>"

    alone, used = network(""), network(" connections='2'")
    assert network_definition(alone) == network_definition(used)
    assert network_definition(alone) != network_definition(network("", "eth1"))
