# SPDX-License-Identifier: GPL-3.0-or-later
"""Definitions of domains, and what is never done to those of others."""

import os
import subprocess
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest

from pyguixvm.commands import power as requests
from pyguixvm.commands.session import Session
from pyguixvm.errors import HypervisorError, RequestRefusedError
from pyguixvm.events import ignore
from pyguixvm.hypervisor import domains, networks, power
from pyguixvm.hypervisor.observe import observe
from pyguixvm.hypervisor.observe_domain import read
from pyguixvm.hypervisor.states import all_states
from pyguixvm.model.applied import Metadata
from pyguixvm.xml.domain import SPARE_ROOT_PORTS
from pyguixvm.xml.metadata import NAMESPACE
from pyguixvm.xml.storage import BackingFile
from pyguixvm.xml.text import parse

GOLDEN = Path(__file__).parents[1] / "unit" / "golden"
MIB = 1024**2


@pytest.mark.parametrize("golden", sorted(GOLDEN.glob("domain-*.xml")), ids=lambda p: p.stem)
def test_virt_xml_validate_agrees_with_each_golden_file(golden):
    subprocess.run(["virt-xml-validate", golden, "domain"], check=True)


# --- definitions ------------------------------------------------------------


def test_a_definition_is_kept_with_its_metadata(connection, defined, a_machine):
    machine = a_machine(title="Web & <mail>", description="<b>not markup</b>")
    name = defined(machine)
    assert domains.exists(connection, name)
    assert domains.read_metadata(connection, name).generation.declaration == machine
    root = parse(domains.inactive_xml(connection, name))
    assert root.findtext("title") == "Web & <mail>"
    assert root.findtext("description") == "<b>not markup</b>"


def test_libvirt_leaves_the_spare_root_ports_free(connection, defined, a_machine):
    devices = parse(domains.inactive_xml(connection, defined(a_machine()))).find("devices")
    ports = {c.get("index") for c in devices.findall("controller[@model='pcie-root-port']")}
    used = {str(int(a.get("bus"), 16)) for a in devices.iter("address") if a.get("type") == "pci"}
    assert len(ports - used) == SPARE_ROOT_PORTS


def test_a_domain_is_defined_anew_in_place(connection, defined, a_machine):
    name = defined(a_machine())
    xml = domains.inactive_xml(connection, name)
    domains.define(connection, xml.replace("</name>", "</name><title>new</title>"))
    assert parse(domains.inactive_xml(connection, name)).findtext("title") == "new"


def test_what_was_listed_is_not_taken_for_what_has_its_name_now(connection, defined, a_machine):
    name = defined(a_machine())
    handle = connection.handle.lookupByName(name)
    xml, uuid = domains.inactive_xml(connection, name), handle.UUIDString()
    observe(connection)
    assert domains.find_whole_definition(connection, name)[2].uuid == uuid
    # Renamed, its name is nobody's; then it is another one's.
    handle.rename(f"{name}-before")
    try:
        assert domains.find_whole_definition(connection, name) is None
        other = str(uuid4())
        connection.handle.defineXML(xml.replace(uuid, other))
        assert domains.find_whole_definition(connection, name)[2].uuid == other
    finally:
        handle.undefine()
    # And it may be gone.
    assert domains.find_whole_definition(connection, name)[2].uuid == other


def test_what_libvirts_schema_does_not_know_is_refused(connection, a_machine):
    name = a_machine().name
    xml = f"<domain type='qemu'><name>{name}</name><memory>1</memory><nonsense/></domain>"
    with pytest.raises(HypervisorError, match=f"cannot define domain '{name}'"):
        domains.define(connection, xml)
    assert not domains.exists(connection, name)


@pytest.mark.parametrize(
    "verb",
    [
        domains.start,
        domains.start_paused,
        domains.resume,
        domains.destroy,
        domains.undefine,
        domains.read_metadata,
        lambda c, n: domains.set_autostart(c, n, True),
        lambda c, n: domains.define(c, domains.inactive_xml(c, n)),
        lambda c, n: power.shutdown(c, n, timeout=1),
        lambda c, n: power.reboot(c, n, timeout=1),
    ],
)
def test_a_domain_that_is_not_ours_is_left_alone(connection, foreign, verb):
    before = domains.inactive_xml(connection, foreign)
    with pytest.raises(RequestRefusedError, match="not made by pyguixvm: it is left alone"):
        verb(connection, foreign)
    assert domains.inactive_xml(connection, foreign) == before
    assert domains.state(connection, foreign) == "shut off"


def test_a_machine_that_does_not_exist_is_named(connection):
    with pytest.raises(HypervisorError, match="no-such-machine") as failure:
        domains.start(connection, "no-such-machine")
    assert "pyguixvm list" in failure.value.hint


# --- metadata ---------------------------------------------------------------


def test_metadata_is_written_beside_that_of_other_tools(connection, defined, a_machine):
    machine = a_machine()
    name = defined(machine)
    handle = connection.handle.lookupByName(name)
    handle.setMetadata(2, "<note>keep</note>", "app", "urn:other", 2)
    metadata = domains.read_metadata(connection, name)
    later = Metadata(current=1, generations=metadata.generations * 2)
    domains.write_metadata(connection, name, later)
    later = msgspec.structs.replace(later, uuid=handle.UUIDString())
    assert domains.read_metadata(connection, name) == later
    assert "keep" in handle.metadata(2, "urn:other", 2)
    held = parse(domains.inactive_xml(connection, name)).findall(f"metadata/{{{NAMESPACE}}}*")
    assert len(held) == 1


def test_metadata_of_a_running_domain_is_written_live_and_for_the_next_start(
    connection, defined, a_machine
):
    name = defined(a_machine())
    domains.start_paused(connection, name)
    metadata = domains.read_metadata(connection, name)
    later = Metadata(current=1, generations=metadata.generations * 2)
    domains.write_metadata(connection, name, later)
    handle = connection.handle.lookupByName(name)
    live = handle.XMLDesc(0)
    later = msgspec.structs.replace(later, uuid=handle.UUIDString())
    assert domains.read_metadata(connection, name) == later
    assert live.count("urn:pyguixvm:metadata:1") == 1
    assert live.count('"number":1') + live.count("&quot;number&quot;:1") == 2


# --- observation ------------------------------------------------------------


def test_observation_tells_ours_from_others(connection, defined, foreign, a_machine):
    machine = a_machine(memory=192 * MIB, maximum_memory=256 * MIB, cpu=2, maximum_cpu=4)
    name = defined(machine)
    domains.set_autostart(connection, name, True)
    domains.start_paused(connection, name)
    found = observe(connection)
    ours, other = found.domains[name], found.domains[foreign]
    assert (ours.state, ours.autostart, ours.persistent) == ("paused", True, True)
    assert (ours.defined.memory, ours.defined.cpu) == (192 * MIB, 2)
    assert ours.metadata.generation.declaration == machine
    assert (other.state, other.autostart, other.metadata) == ("shut off", False, None)
    assert (found.uri, found.local) == ("qemu:///system", True)


def test_the_mac_addresses_of_every_domain_are_observed(connection, foreign):
    xml = domains.inactive_xml(connection, foreign).replace(
        "</devices>",
        "<interface type='user'><mac address='52:54:00:AB:00:01'/></interface>"
        "<interface type='network'><source network='default'/>"
        "<mac address='52:54:00:ab:00:02'/></interface></devices>",
    )
    connection.handle.defineXML(xml)
    found = observe(connection).domains[foreign]
    assert tuple(i.mac_address for i in found.defined.interfaces) == (
        "52:54:00:ab:00:01",
        "52:54:00:ab:00:02",
    )


def test_a_domain_of_a_newer_version_is_seen_but_not_touched(connection, defined, a_machine):
    name = defined(a_machine())
    connection.handle.lookupByName(name).setMetadata(
        2, "<machine schema='99'>?</machine>", "pyguixvm", NAMESPACE, 2
    )
    observed = observe(connection).domains[name]
    assert observed.metadata is None
    assert "newer pyguixvm" in observed.unreadable
    with pytest.raises(RequestRefusedError, match="newer pyguixvm"):
        domains.start(connection, name)


# --- start, stop, undefine --------------------------------------------------


def test_a_running_machine_is_not_undefined(connection, defined, a_machine):
    name = defined(a_machine())
    domains.start_paused(connection, name)
    with pytest.raises(RequestRefusedError, match="is running") as refusal:
        domains.undefine(connection, name)
    assert f"pyguixvm destroy {name}" in refusal.value.hint
    assert domains.destroy(connection, name) is True
    assert domains.destroy(connection, name) is False
    domains.undefine(connection, name)
    assert not domains.exists(connection, name)


def test_undefine_leaves_the_volumes(connection, defined, a_machine):
    name = defined(a_machine())
    (disk,) = domains.disks(connection, name)
    domains.undefine(connection, name)
    assert Path(disk).exists()


def test_uefi_starts_without_secure_boot_and_is_undefined_with_its_nvram(
    connection, defined, a_machine
):
    name = defined(a_machine(firmware="uefi"))
    domains.start_paused(connection, name)
    os_element = parse(connection.handle.lookupByName(name).XMLDesc(0)).find("os")
    nvram = Path(os_element.findtext("nvram"))
    assert os_element.find("loader").get("secure", "no") == "no"
    assert nvram.exists()
    domains.destroy(connection, name)
    domains.undefine(connection, name)
    assert not nvram.exists()


def owner_and_mode(path):
    stat = path.stat()
    return stat.st_uid, stat.st_gid, stat.st_mode, stat.st_mtime_ns


@pytest.fixture
def store_item(tmp_path):
    """A file that is as a store item is, but that somebody could change."""
    directory = Path("/var/lib/libvirt/boot") / f"item{os.getpid()}"
    directory.mkdir(exist_ok=True)
    item = directory / "image"
    item.touch()
    os.truncate(item, 16 * MIB)
    item.chmod(0o444)
    yield item
    item.unlink()
    directory.rmdir()


def on_top_of(item):
    """Return how a definition's empty disk becomes an overlay on ITEM."""

    def change(xml):
        disk = parse(xml).find("devices/disk/source").get("file")
        subprocess.run(
            ["qemu-img", "create", "-qf", "qcow2", "-b", item, "-F", "raw", disk], check=True
        )
        return xml

    return change


@pytest.mark.parametrize(
    ("backing", "unchanged"),
    [
        ({"store_item": True, "models": ("dac",)}, True),
        ({"store_item": False, "models": ("dac",)}, True),
        # Without the label, libvirt does what it always does.
        ({"store_item": True, "models": ()}, False),
    ],
)
def test_a_backing_file_keeps_owner_and_mode(
    connection, defined, a_machine, store_item, backing, unchanged
):
    name = defined(
        a_machine(),
        change=on_top_of(store_item),
        root_format="qcow2",
        backing=(BackingFile(str(store_item), "raw", backing["store_item"]),),
        security_models=backing["models"],
    )
    before = owner_and_mode(store_item)
    domains.start_paused(connection, name)
    during = owner_and_mode(store_item)
    domains.destroy(connection, name)
    after = owner_and_mode(store_item)
    assert ((during == before) and (after == before)) is unchanged


# --- networks ---------------------------------------------------------------


def test_a_missing_network_is_an_error_that_names_those_there_are(connection):
    with pytest.raises(HypervisorError, match=r"'no-such-net' does not exist.*default"):
        networks.ensure_network(connection, "no-such-net")


def test_an_inactive_network_is_started_now_and_with_the_host(connection, a_machine):
    name = a_machine().name
    handle = connection.handle.networkDefineXML(f"<network><name>{name}</name></network>")
    try:
        assert networks.ensure_network(connection, name) is True
        assert (handle.isActive(), handle.autostart()) == (1, 1)
        assert networks.ensure_network(connection, name) is False
    finally:
        handle.destroy()
        handle.undefine()


def test_of_several_machines_one_that_fails_does_not_stop_the_others(defined, a_machine):
    first, second = (defined(a_machine()) for _ in range(2))
    here = Session(uri="qemu:///system", options=(), environment={}, emit=ignore, forward=bytes)
    with pytest.raises(RequestRefusedError, match=first):
        requests.reboot(here, [first], 1)
    done = requests.reboot(here, [first, second], 1)
    for name, each in zip((first, second), done, strict=True):
        assert each.machine == name
        assert f"'{name}'" in each.error.message
    powered_off = requests.destroy(here, [first, second], unprotect=False)
    assert [(each.detail, each.error) for each in powered_off] == [("was not running", None)] * 2


def test_what_is_renamed_while_it_is_looked_at_has_its_new_name(
    connection, elsewhere, a_machine, defined, monkeypatch
):
    """Far away, the definition is asked for beside the list."""
    machine = a_machine()
    defined(machine)
    handle = connection.handle.lookupByName(machine.name)
    new = f"{machine.name}-renamed"

    def at_once(domain, **how):
        answers = read(domain, **how)
        answers[0]()
        return answers

    def late(asked):
        handle.rename(new)
        return all_states(asked)

    assert machine.name in observe(elsewhere).domains
    monkeypatch.setattr("pyguixvm.hypervisor.observe.read", at_once)
    monkeypatch.setattr("pyguixvm.hypervisor.observe.all_states", late)
    seen = observe(elsewhere).domains
    handle.rename(machine.name)
    assert new in seen
    assert machine.name not in seen
