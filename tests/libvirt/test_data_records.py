# SPDX-License-Identifier: GPL-3.0-or-later
"""A data volume is its machine's by a record, never by its name, and outlives it."""

import shutil
from pathlib import Path

import pytest
from deploying import MIB, changed, deploy, planned, session, virsh

from pyguixvm.commands import undefine, volumes
from pyguixvm.errors import RequestRefusedError
from pyguixvm.hypervisor import data_records, domains, pools
from pyguixvm.model.declaration import DataDisk
from pyguixvm.model.volume_names import data_volume


@pytest.fixture
def here(tmp_path):
    return session(tmp_path)


@pytest.fixture
def gone(halting, here):
    """A machine that was undefined; its data is kept."""
    (removal,) = undefine.removals(here, [halting.name], keep_volumes=False)
    undefine.undefine(here, [removal])
    return halting


def listed(here, pool):
    return [each for each in volumes.data_volumes(here) if each.pool == pool.name]


def path_of(machine, pool):
    return Path(pool.path) / data_volume(machine.name, "db")


def disks(size=128 * MIB, file_system="ext4"):
    return (DataDisk(name="db", size=size, file_system=file_system, target=None),)


def test_what_undefine_keeps_is_listed_taken_up_and_deleted(connection, gone, here, pool):
    (kept,) = listed(here, pool)
    assert (kept.machine, kept.disk, kept.state) == (gone.name, "db", "kept")
    assert (kept.size, kept.file_system) == (128 * MIB, "ext4")
    held = path_of(gone, pool).read_bytes()

    assert deploy(connection, gone) is None
    domains.destroy(connection, gone.name)
    assert path_of(gone, pool).read_bytes() == held
    (used,) = listed(here, pool)
    assert (used.state, used.detail) == ("in use", f"domain '{gone.name}' uses it")
    for refuse in (volumes.require_deletable, volumes.require_forgettable):
        with pytest.raises(RequestRefusedError, match="in use"):
            refuse([used])
    # What was agreed on is looked at again.
    with pytest.raises(RequestRefusedError, match="nothing was deleted"):
        volumes.delete(here, [kept])
    assert path_of(gone, pool).exists()

    (removal,) = undefine.removals(here, [gone.name], keep_volumes=False)
    undefine.undefine(here, [removal])
    volumes.delete(here, listed(here, pool))
    assert not path_of(gone, pool).exists()
    assert listed(here, pool) == []
    assert deploy(connection, gone) is None


def test_a_machine_that_virsh_undefined_leaves_what_can_be_taken_up(
    connection, halting, here, pool
):
    domains.destroy(connection, halting.name)
    virsh(f"undefine {halting.name}")
    (kept,) = listed(here, pool)
    assert kept.state == "kept"
    assert deploy(connection, halting) is None
    assert domains.disks(connection, halting.name)[1] == str(path_of(halting, pool))


def test_data_that_goes_with_its_machine_leaves_no_record(connection, halting, here, pool):
    (removal,) = undefine.removals(here, [halting.name], keep_volumes=False, delete_data=True)
    undefine.undefine(here, [removal])
    assert listed(here, pool) == []
    assert deploy(connection, halting) is None


def test_what_is_only_called_as_a_disk_goes_to_no_machine(
    connection, halting, here, pool, a_machine
):
    other = changed(a_machine(pool=pool.name, ready=()), disks=disks())
    domains.destroy(connection, halting.name)
    virsh(f"vol-clone --pool {pool.name} {path_of(halting, pool).name} {path_of(other, pool).name}")
    made = planned(connection, other)
    assert made.actions == ()
    assert "there is no record that it was made for it" in made.refusal
    assert f"pyguixvm volumes adopt {pool.name}/" in made.hint
    (unknown,) = [each for each in listed(here, pool) if each.machine == other.name]
    assert unknown.state == "unknown"
    with pytest.raises(RequestRefusedError, match="nothing was deleted"):
        volumes.require_deletable([unknown])
    volumes.adopt(here, [unknown])
    assert planned(connection, other).refusal is None
    assert next(each for each in listed(here, pool) if each.machine == other.name).state == "kept"


def test_one_that_took_the_place_of_another_is_not_taken_up(connection, gone, here, pool, tmp_path):
    volume = path_of(gone, pool)
    backup = shutil.copy(volume, tmp_path / "backup")
    virsh(f"vol-delete --pool {pool.name} {volume.name}")
    virsh(f"vol-create-as {pool.name} {volume.name} 128M --format qcow2")
    made = planned(connection, gone)
    assert made.actions == ()
    assert "another one has taken its place" in made.refusal
    (unknown,) = listed(here, pool)
    assert unknown.state == "unknown"
    with pytest.raises(RequestRefusedError, match="not the one that was recorded"):
        volumes.require_deletable([unknown])
    # A copy of the file is what it was copied from.
    shutil.copy(backup, volume)
    virsh(f"pool-refresh {pool.name}")
    assert planned(connection, gone).refusal is None
    assert deploy(connection, gone) is None


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        (disks(file_system="btrfs"), "holds ext4; data disk 'db' is declared as btrfs"),
        (disks(size=64 * MIB), "a data disk never shrinks"),
    ],
)
def test_what_is_kept_has_to_hold_what_is_declared(connection, gone, pool, declared, said):
    before = path_of(gone, pool).read_bytes()
    wanted = changed(gone, disks=declared)
    made = planned(connection, wanted)
    assert made.actions == ()
    assert said in made.refusal
    assert isinstance(deploy(connection, wanted), RequestRefusedError)
    assert not domains.exists(connection, gone.name)
    assert path_of(gone, pool).read_bytes() == before


@pytest.mark.parametrize("running", [True, False])
def test_a_volume_that_grew_is_the_one_that_was_made(connection, halting, here, pool, running):
    (record,) = [each for each in data_records.read(connection) if each.pool == pool.name]
    if not running:
        domains.destroy(connection, halting.name)
    bigger = changed(halting, disks=disks(size=256 * MIB))
    assert deploy(connection, bigger) is None
    if running:
        domains.destroy(connection, halting.name)
    assert data_records.identity(connection, record.address) == record.identity is not None
    (removal,) = undefine.removals(here, [halting.name], keep_volumes=False)
    undefine.undefine(here, [removal])
    (kept,) = listed(here, pool)
    assert (kept.state, kept.size) == ("kept", 256 * MIB)
    assert deploy(connection, bigger) is None


def test_what_is_in_a_pool_that_is_stopped_is_not_made_elsewhere(connection, gone, here, pool):
    virsh(f"pool-destroy {pool.name}")
    made = planned(connection, gone)
    assert made.actions == ()
    assert f"virsh pool-start {pool.name}" in made.hint
    (hidden,) = listed(here, pool)
    assert hidden.state == "pool inactive"
    virsh(f"pool-start {pool.name}")
    assert deploy(connection, gone) is None


def test_of_two_disks_of_one_name_the_one_that_was_given_counts(
    connection, halting, pool, tmp_path
):
    name, ours = halting.name, path_of(halting, pool)
    domains.destroy(connection, name)
    theirs = tmp_path / ours.name
    tmp_path.chmod(0o755)
    shutil.copy(ours, theirs)
    virsh(f"detach-disk {name} vdb --config")
    attach = f"attach-disk {name} --config --subdriver qcow2"
    virsh(f"{attach} {theirs} vdb")
    virsh(f"{attach} {ours} vdc --serial data-db")
    bigger = changed(halting, disks=disks(size=256 * MIB), title="web")
    assert deploy(connection, bigger) is None
    assert b"QFI" in theirs.read_bytes()[:4]
    assert int.from_bytes(theirs.read_bytes()[24:32], "big") == 128 * MIB
    assert int.from_bytes(ours.read_bytes()[24:32], "big") == 256 * MIB
    assert planned(connection, bigger).differences == ()


def test_an_older_machine_is_recorded_when_it_is_defined_anew(connection, halting, here, pool):
    address = (pool.name, path_of(halting, pool).name)
    assert data_records.remove(connection, address)
    assert deploy(connection, changed(halting, title="web")) is None
    domains.destroy(connection, halting.name)
    virsh(f"undefine {halting.name}")
    (kept,) = listed(here, pool)
    assert (kept.state, kept.file_system) == ("kept", "ext4")
    assert deploy(connection, halting) is None


def test_what_was_broken_off_while_it_was_made_is_made_anew(connection, gone, here, pool):
    volumes.delete(here, listed(here, pool))
    address = (pool.name, path_of(gone, pool).name)
    data_records.write(connection, data_records.DataRecord(*address, making=True))
    assert deploy(connection, gone) is None
    (used,) = listed(here, pool)
    assert used.state == "in use"


def test_a_record_that_cannot_be_read_vouches_for_nothing_and_stops_nobody(
    connection, gone, here, pool, halting
):
    xml = connection.handle.secretLookupByUUIDString(
        data_records._uuid((pool.name, path_of(gone, pool).name))
    ).XMLDesc(0)
    begin, end = xml.index("<description>"), xml.index("</description>")
    connection.handle.secretDefineXML(f"{xml[:begin]}<description>{{]{xml[end:]}", 0)
    (kept,) = listed(here, pool)
    assert (kept.state, kept.file_system) == ("kept", None)
    assert pools.find_pool(connection, pool.name) is not None
    assert planned(connection, gone).refusal is None
