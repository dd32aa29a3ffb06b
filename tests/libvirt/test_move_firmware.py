# SPDX-License-Identifier: GPL-3.0-or-later
"""What UEFI firmware keeps of a machine goes with it, to another hypervisor and back."""

import signal
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import libvirt
import msgspec
import pytest
from deploying import virsh

from pyguixvm.errors import HypervisorError, RequestRefusedError
from pyguixvm.hypervisor import domains, firmware_variables, volumes
from pyguixvm.model.volume_names import variables_volume
from pyguixvm.xml.pool import directory_pool_xml
from pyguixvm.xml.text import element, parse, render

# Where no variable is: in the spare block at the end, which firmware uses for a moment only.
MARK = b"what somebody set, and nobody knows any more"


class Kept:
    """The file of variables of TRAVELLER's machine, wherever it is."""

    def __init__(self, traveller):
        self.traveller = traveller

    def file(self, where):
        name = self.traveller.name
        path = firmware_variables.file(where, name, domains.inactive_xml(where, name))
        return Path(self.traveller.outside(where, path))

    def mark(self, where, mark=MARK):
        """Have the variables say at WHERE what no template says."""
        with self.file(where).open("r+b") as opened:
            opened.seek(-len(mark), 2)
            opened.write(mark)

    def marked(self, where, mark=MARK):
        return self.file(where).read_bytes().endswith(mark)


@pytest.fixture
def kept(with_variables):
    kept = Kept(with_variables)
    kept.mark(with_variables.connection)
    return kept


def pools_of(where):
    return {pool.name() for pool in where.handle.listAllStoragePools()}


def test_variables_go_with_a_machine_that_is_off_and_come_back(with_variables, kept):
    here, there = with_variables.connection, with_variables.there
    first = kept.file(here)
    with_variables.move(there)
    assert kept.marked(there)
    with_variables.require_whole(there)
    assert not first.exists()
    # It starts with them, and libvirt takes them away with the machine.
    assert with_variables.can_start(there)
    assert kept.marked(there)
    second = kept.file(there)
    with_variables.move(here)
    assert kept.marked(here)
    assert with_variables.can_start(here)
    assert not second.exists()
    assert not any("variables" in name for where in (here, there) for name in pools_of(where))
    # And again to where their volume was once.
    with_variables.move(there)
    assert kept.marked(there)
    with_variables.move(here)


def test_variables_that_changed_since_they_were_sent_stay(with_variables, kept):
    here, there = with_variables.connection, with_variables.there
    assert with_variables.once(here, there, "defineXMLFlags").returncode == -signal.SIGKILL
    later = MARK[::-1]
    kept.mark(here, later)
    with pytest.raises(RequestRefusedError, match="or changed"):
        with_variables.move(there)
    name = variables_volume(with_variables.name)
    assert with_variables.at() == [here]
    assert name not in (volumes.names(there, with_variables.pool) or ())
    with_variables.move(there)
    assert kept.marked(there, later)


@pytest.mark.parametrize("number", range(1, 4))
def test_whoever_is_killed_loses_no_variables(with_variables, kept, number):
    here, there = with_variables.connection, with_variables.there
    last = ("defineXMLFlags", "undefineFlags", "setMetadata")[number - 1]
    assert with_variables.once(here, there, last).returncode == -signal.SIGKILL
    with_variables.move(there)
    assert kept.marked(there)
    assert with_variables.can_start(there)


def test_variables_go_with_a_guest_that_runs(with_variables, kept, line):
    here, there = with_variables.connection, with_variables.there
    first = kept.file(here)
    domains.start(here, with_variables.name)
    with_variables.move(there, by=line.there)
    assert domains.state(there, with_variables.name) == "running"
    assert kept.marked(there)
    assert not first.exists()
    domains.destroy(there, with_variables.name)
    # From a volume of the pool, off and running.
    with_variables.move(here)
    assert kept.marked(here)
    domains.start(here, with_variables.name)
    with_variables.move(there, by=line.there)
    assert kept.marked(there)
    domains.destroy(there, with_variables.name)
    with_variables.move(here)
    assert kept.marked(here)


def test_a_file_that_is_not_there_is_no_variables(connection):
    assert firmware_variables.held(connection, "/var/lib/libvirt/images/nothing.fd") is None
    assert firmware_variables.held(connection, "/nonexistent/nothing.fd") is None
    assert "variables" not in virsh("pool-list --all --name")


def test_several_look_at_the_same_directory_at_once(connection, elsewhere, with_variables, kept):
    file = firmware_variables.file(
        connection, with_variables.name, domains.inactive_xml(connection, with_variables.name)
    )
    with ThreadPoolExecutor(4) as several:
        looks = [
            several.submit(firmware_variables.held, where, file)
            for where in (connection, elsewhere) * 10
        ]
        assert all(look.result().endswith(MARK) for look in looks)
    assert not any("variables" in name for name in pools_of(connection))


def test_a_pool_of_that_directory_is_as_it_was_and_what_was_left_goes(connection, tmp_path):
    tmp_path.chmod(0o755)
    (tmp_path / "web_VARS.fd").write_bytes(MARK)
    held = partial(firmware_variables.held, connection, str(tmp_path / "web_VARS.fd"))
    theirs = connection.handle.storagePoolDefineXML(directory_pool_xml("theirs", str(tmp_path)), 0)
    try:
        assert held() == MARK
        assert not theirs.isActive()
        theirs.create(0)
        assert held() == MARK
        assert theirs.isActive()
        theirs.destroy()
    finally:
        theirs.undefine()
    # As by one who was killed.
    left = directory_pool_xml("pyguixvm-variables-0123456789abcdef", str(tmp_path))
    connection.handle.storagePoolCreateXML(left, 0)
    assert held() == MARK
    assert not any("variables" in name for name in pools_of(connection))


def test_the_last_copy_of_variables_is_not_taken_back(with_variables, kept):
    here, there = with_variables.connection, with_variables.there
    assert with_variables.once(here, there, "defineXMLFlags").returncode == -signal.SIGKILL
    kept.file(here).unlink()
    with pytest.raises(RequestRefusedError, match="is not there any more") as refused:
        with_variables.move(there)
    assert kept.marked(there)
    assert with_variables.at() == [here, there]
    assert f"undefine --nvram {with_variables.name}" in refused.value.hint
    virsh(f"undefine --nvram {with_variables.name}")
    with_variables.move(there)
    assert kept.marked(there)
    with_variables.require_whole(there)


def test_no_file_goes_that_only_what_arrived_names(with_variables, kept, tmp_path):
    here, there = with_variables.connection, with_variables.there
    assert with_variables.once(here, there, "undefineFlags").returncode == -signal.SIGKILL
    tmp_path.chmod(0o755)
    other = tmp_path / "shadow"
    other.write_bytes(MARK)
    metadata = domains.read_metadata(there, with_variables.name)
    variables = msgspec.structs.replace(metadata.arrival.variables, path=str(other))
    arrival = msgspec.structs.replace(metadata.arrival, variables=variables)
    domains.write_metadata(
        there, with_variables.name, msgspec.structs.replace(metadata, arrival=arrival)
    )
    assert f"{other}, if it is on" in with_variables.move(there)
    assert other.read_bytes() == MARK
    with_variables.require_whole(there)


def test_variables_go_that_the_definition_names_by_a_source(with_variables, kept):
    here, there = with_variables.connection, with_variables.there
    file, name = kept.file(here), with_variables.name
    another = file.with_name(f"{name}_VARS.another")
    file.rename(another)
    xml = parse(domains.whole_definition(here, name))
    source = element("source", {"file": str(another)})
    xml.find("os").append(element("nvram", {"type": "file"}, source))
    here.handle.defineXML(render(xml))
    assert kept.file(here) == another
    with_variables.move(there)
    assert kept.marked(there)
    assert with_variables.can_start(there)
    assert not another.exists()
    with_variables.move(here)
    assert kept.marked(here)


def test_what_a_move_that_failed_left_of_variables_is_in_nobodys_way(with_variables, kept, line):
    here, there = with_variables.connection, with_variables.there
    with_variables.move(there)
    file = kept.file(there)
    domains.start(there, with_variables.name)
    # QEMU is ready for it, and nobody gets there.
    for _ in range(2):
        with pytest.raises(HypervisorError, match="migrate domain"):
            with_variables.move(here, by="tcp://127.0.0.1:1")
        here.handle.storagePoolLookupByName(with_variables.pool).refresh(0)
    assert domains.state(there, with_variables.name) == "running"
    assert kept.marked(there)
    with_variables.move(here, by=line.here)
    assert kept.marked(here)
    assert not file.exists()
    domains.destroy(here, with_variables.name)
    with_variables.require_whole(here)


def test_variables_that_another_machine_has_as_well_stay_and_are_told(with_variables, kept):
    here, there = with_variables.connection, with_variables.there
    file, name = kept.file(here), f"{with_variables.name}-copy"
    xml = parse(domains.whole_definition(here, with_variables.name))
    for part in ("uuid", "metadata", "devices"):
        xml.remove(xml.find(part))
    xml.find("name").text = name
    xml.find("os").append(element("nvram", str(file)))
    copy = here.handle.defineXML(render(xml))
    try:
        assert f"{file} stays on {here.uri}: it is of {name}, too" in with_variables.move(there)
        assert kept.marked(there)
        assert file.read_bytes().endswith(MARK)
    finally:
        copy.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)
