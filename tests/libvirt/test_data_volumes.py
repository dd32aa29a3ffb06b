# SPDX-License-Identifier: GPL-3.0-or-later
"""A data volume is where the definition of its machine has it, and nowhere else."""

import shutil
from pathlib import Path

import msgspec
import pytest
from deploying import MIB, changed, deploy, planned, session, virsh

from pyguixvm.commands import undefine
from pyguixvm.commands import volumes as volumes_of
from pyguixvm.errors import RequestRefusedError
from pyguixvm.hypervisor import domains, pools, volumes
from pyguixvm.hypervisor.observe import observe
from pyguixvm.model.declaration import DataDisk
from pyguixvm.model.volume_names import data_volume, generation_volume
from pyguixvm.plan.status import statuses


@pytest.fixture
def backup(connection, pool):
    """The name of a pool that comes before all others in the alphabet."""
    name = f"a-{pool.name}"
    pools.ensure_pool(connection, name)
    directory = pools.find_pool(connection, name).path
    yield name
    virsh(f"pool-destroy {name}")
    virsh(f"pool-undefine {name}")
    shutil.rmtree(directory)


def copied(connection, machine, pool, backup):
    """Copy the data volume of MACHINE to the pool BACKUP; return the file name there."""
    volume = data_volume(machine.name, "db")
    directory = pools.find_pool(connection, backup).path
    copy = Path(directory) / volume
    shutil.copy(Path(pool.path) / volume, copy)
    virsh(f"pool-refresh {backup}")
    return copy


def disks(size):
    return (DataDisk(name="db", size=size, file_system="ext4", target=None),)


def test_a_copy_in_another_pool_is_nobodys_business(connection, halting, pool, backup, tmp_path):
    name = halting.name
    domains.destroy(connection, name)
    copy = copied(connection, halting, pool, backup)
    before = copy.read_bytes()
    wanted = changed(halting, title="web", disks=disks(256 * MIB))
    assert deploy(connection, wanted) is None
    volume = Path(pool.path) / data_volume(name, "db")
    assert domains.disks(connection, name)[1] == str(volume)
    assert volumes.at(connection, str(volume)).capacity == 256 * MIB
    assert copy.read_bytes() == before

    here = session(tmp_path)
    (removal,) = undefine.removals(here, [name], keep_volumes=False, delete_data=True)
    assert removal.data == ((pool.name, volume.name),)
    assert removal.others == ((backup, volume.name),)
    (done,) = undefine.undefine(here, [removal])
    assert f"{volume.name} in pool {backup}" in done.detail
    assert not volume.exists()
    assert copy.read_bytes() == before


def test_a_disk_stays_in_its_pool_when_another_one_is_declared(connection, halting, pool, backup):
    domains.destroy(connection, halting.name)
    copied(connection, halting, pool, backup)
    assert deploy(connection, changed(halting, pool=backup)) is None
    root, data = domains.disks(connection, halting.name)
    assert Path(root).parent.name == backup
    assert Path(data).parent == Path(pool.path)
    domains.destroy(connection, halting.name)
    assert deploy(connection, changed(halting, pool=pool.name)) is None


def test_what_was_kept_in_another_pool_is_not_passed_over(
    connection, halting, pool, backup, tmp_path
):
    name, volume = halting.name, data_volume(halting.name, "db")
    here = session(tmp_path)
    (removal,) = undefine.removals(here, [name], keep_volumes=False)
    undefine.undefine(here, [removal])
    elsewhere = changed(halting, pool=backup)
    made = planned(connection, elsewhere)
    assert made.actions == ()
    assert f"'{volume}' of data disk 'db' is not in pool '{backup}'" in made.refusal
    assert f"in pool '{pool.name}'" in made.refusal
    assert f'(pool "{pool.name}")' in made.hint
    assert isinstance(deploy(connection, elsewhere), RequestRefusedError)
    assert volumes.list_ours(connection, backup) == ()
    assert deploy(connection, halting) is None
    assert domains.disks(connection, name)[1] == f"{pool.path}/{volume}"


@pytest.mark.parametrize("attached", [True, False])
def test_a_volume_that_is_not_there_is_never_made_anew(connection, halting, pool, attached):
    name, volume = halting.name, Path(pool.path) / data_volume(halting.name, "db")
    domains.destroy(connection, name)
    if not attached:
        virsh(f"detach-disk {name} vdb --config")
    away = volume.rename(volume.with_name("away"))
    virsh(f"pool-refresh {pool.name}")
    wanted = changed(halting, title="web")
    made = planned(connection, wanted)
    assert made.actions == ()
    assert f"volume '{volume.name}' of data disk 'db' is not " in made.refusal
    assert "not mounted?" in made.refusal
    assert "findmnt" in made.hint
    assert ("domain.disks.db", "gone" if attached else "absent") in [
        (each.path, each.old) for each in made.differences
    ]
    before = domains.inactive_xml(connection, name)
    assert isinstance(deploy(connection, wanted), RequestRefusedError)
    assert domains.inactive_xml(connection, name) == before
    assert not volume.exists()

    away.rename(volume)
    virsh(f"pool-refresh {pool.name}")
    assert deploy(connection, wanted) is None
    assert domains.disks(connection, name)[1] == str(volume)


NETWORK = (
    "<disk type='network' device='disk'><driver name='qemu' type='raw'/>"
    "<source protocol='nbd' name='theirs'><host name='localhost' port='10810'/></source>"
    "<target dev='vdx' bus='virtio'/></disk>"
)
VOLUME = (
    "<disk type='volume' device='disk'><driver name='qemu' type='raw'/>"
    "<source pool='{}' volume='{}'/><target dev='{}' bus='virtio'/></disk>"
)


def test_disks_that_are_no_files_are_seen(connection, halting, pool, tmp_path):
    name = halting.name
    domains.destroy(connection, name)
    virsh(f"vol-create-as {pool.name} theirs 1M")
    device = tmp_path / "device.xml"
    for xml in (NETWORK, VOLUME.format(pool.name, "theirs", "vdy")):
        device.write_text(xml)
        virsh(f"attach-device {name} {device} --config")
    (status,) = statuses([halting], observe(connection))
    assert status.foreign == ("disk nbd theirs localhost", f"disk volume {pool.name}/theirs")
    # Our own as such a disk is ours still.
    root, data = generation_volume(name, 1), data_volume(name, "db")
    for target, volume in (("vda", root), ("vdb", data)):
        virsh(f"detach-disk {name} {target} --config")
        device.write_text(VOLUME.format(pool.name, volume, target).replace("raw", "qcow2"))
        virsh(f"attach-device {name} {device} --config")
    (status,) = statuses([halting], observe(connection))
    assert len(status.foreign) == 2
    for target in ("vdx", "vdy"):
        virsh(f"detach-disk {name} {target} --config")
    assert deploy(connection, changed(halting, title="web")) is None
    assert domains.disks(connection, name) == (f"{pool.path}/{root}", f"{pool.path}/{data}")


def test_a_machine_that_has_no_disk_any_more_has_none_to_look_for(
    connection, halting, pool, tmp_path
):
    domains.destroy(connection, halting.name)
    without = changed(halting, disks=())
    assert deploy(connection, without) is None
    (Path(pool.path) / data_volume(halting.name, "db")).unlink()
    virsh(f"pool-refresh {pool.name}")
    # It may be on a disk of the host that is not mounted, until somebody says that it is lost.
    refused = planned(connection, halting)
    assert f"is not in pool '{pool.name}', where it was made" in refused.refusal
    here = session(tmp_path)
    volumes_of.forget(here, volumes_of.data_volumes(here))
    assert deploy(connection, msgspec.structs.replace(halting)) is None


def test_a_root_that_vanished_is_told_and_replaced(connection, halting, pool):
    name, root = halting.name, Path(pool.path) / generation_volume(halting.name, 1)
    data = domains.disks(connection, name)[1]
    domains.destroy(connection, name)
    root.unlink()
    (status,) = statuses([halting], observe(connection))
    assert status.status == "drifted"
    assert [(d.path, d.old, d.new, d.effect) for d in status.differences] == [
        ("root", "gone", root.name, "replace")
    ]
    made = planned(connection, halting)
    assert (made.effect, made.fallback) == ("replace", None)
    assert (
        "protected" in planned(connection, msgspec.structs.replace(halting, protect=True)).refusal
    )
    assert deploy(connection, halting) is None
    assert domains.disks(connection, name) == (f"{pool.path}/{generation_volume(name, 2)}", data)
    assert planned(connection, halting).differences == ()
