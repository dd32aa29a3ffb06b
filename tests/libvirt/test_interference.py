# SPDX-License-Identifier: GPL-3.0-or-later
"""What other tools do to the disks of our machines, by the commands that people give.

The guests do nothing but say a word on the serial line.
"""

import subprocess
from datetime import timedelta
from pathlib import Path

import libvirt
import pytest
from deploying import MIB, changed, deploy, planned, renewed, session, virsh

from pyguixvm.apply.context import Workshop
from pyguixvm.apply.executor import apply
from pyguixvm.commands import garbage, rollback, undefine
from pyguixvm.errors import RequestRefusedError
from pyguixvm.events import ignore
from pyguixvm.hypervisor import domains
from pyguixvm.hypervisor.observe import observe
from pyguixvm.model.declaration import DataDisk
from pyguixvm.model.volume_names import data_volume, generation_volume
from pyguixvm.plan.plan import Policy
from pyguixvm.plan.planner import plan
from pyguixvm.plan.status import statuses


def told(hint):
    """Give the commands that HINT tells."""
    words = hint.partition("Merge it first: ")[2].removesuffix(".")
    for command in words.split(" && "):
        virsh(command.removeprefix("virsh "))


def write(pool, volume, text):
    """Have the volume, which no guest uses, begin with TEXT in its second sector."""
    file = Path(pool.path) / volume
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", f"write -P {text} 512 512", file], check=True)


def read(path, value):
    """Whether what a guest would see in the second sector of PATH is VALUE."""
    command = f"read -P {value} 512 512"
    done = subprocess.run(
        ["qemu-io", "-U", "-f", "qcow2", "-r", "-c", command, path], capture_output=True, text=True
    )
    assert done.returncode in {0, 1}
    return done.returncode == 0 and "verification failed" not in done.stdout


@pytest.mark.parametrize("state", ["running", "shut off"])
@pytest.mark.parametrize("metadata", ["", "--no-metadata"])
def test_a_layer_is_named_and_nothing_below_it_is_touched(
    connection, halting, pool, tmp_path, state, metadata
):
    name = halting.name
    root, data = generation_volume(name, 1), data_volume(name, "db")
    if state == "shut off":
        domains.destroy(connection, name)
    virsh(f"snapshot-create-as {name} s1 --disk-only {metadata}")
    layer = root.replace(".qcow2", ".s1")
    before = domains.inactive_xml(connection, name)

    (status,) = statuses([halting], observe(connection))
    assert status.status == "drifted"
    assert [(d.path, d.new, d.effect) for d in status.differences] == [
        ("root", root, "none"),
        ("domain.disks.db", data, "none"),
    ]
    assert status.differences[0].old == f"{layer}, a snapshot's layer on it"
    assert status.foreign == ()

    for declared in (
        halting,
        changed(halting, title="web"),
        changed(halting, disks=()),
        changed(halting, disks=(DataDisk("db", 256 * MIB, "ext4", None),)),
        renewed(halting, tmp_path),
    ):
        made = planned(connection, declared)
        assert made.actions == ()
        assert f"'{layer}', stands on the root volume of '{name}'" in made.refusal
        assert isinstance(deploy(connection, declared), RequestRefusedError)
    with pytest.raises(RequestRefusedError, match="s1"):
        undefine.removals(session(tmp_path), [name], keep_volumes=False)
    assert domains.inactive_xml(connection, name) == before

    told(planned(connection, halting).hint)
    wanted = changed(renewed(halting, tmp_path), title="web", disks=halting.domain.disks)
    domains.destroy(connection, name)
    assert deploy(connection, wanted) is None
    (status,) = statuses([wanted], observe(connection))
    assert (status.status, status.generation) == ("deployed", 2)


def test_what_was_written_to_a_layer_is_there_after_the_commands(connection, halting, pool):
    name = halting.name
    domains.destroy(connection, name)
    data = data_volume(name, "db")
    write(pool, data, "0x11")
    virsh(f"snapshot-create-as {name} s1 --disk-only")
    write(pool, data.replace(".qcow2", ".s1"), "0x22")
    virsh(f"snapshot-create-as {name} s2 --disk-only --no-metadata")
    write(pool, data.replace(".qcow2", ".s2"), "0x33")
    refused = planned(connection, changed(halting, title="web"))
    assert f"'{data.replace('.qcow2', '.s2')}', stands on data disk 'db'" in refused.refusal
    # The newest was made without a word to libvirt: it can only be committed.
    assert "blockcommit" in refused.hint
    told(refused.hint)
    assert deploy(connection, changed(halting, title="web")) is None
    domains.destroy(connection, name)
    assert read(f"{pool.path}/{data}", "0x33")


def test_snapshots_upon_each_other_are_merged_in_turn(connection, halting):
    for snapshot in ("s1", "s2"):
        virsh(f"snapshot-create-as {halting.name} {snapshot} --disk-only")
    hint = planned(connection, halting).hint
    assert hint.count("snapshot-delete") == 2
    told(hint)
    assert planned(connection, halting).differences == ()
    assert deploy(connection, changed(halting, title="web")) is None


def test_a_layer_that_comes_after_the_plan_is_seen_before_the_definition(
    connection, halting, tmp_path
):
    name = halting.name
    made = plan([changed(halting, title="web")], observe(connection))
    virsh(f"snapshot-create-as {name} s1 --disk-only --no-metadata")
    before = domains.inactive_xml(connection, name)
    workshop = Workshop(connection, ignore, {"PYGUIXVM_VIRT_TYPE": "qemu"}, None)
    (outcome,) = apply(made, workshop)
    assert "stands on the root volume" in outcome.error.message
    assert domains.inactive_xml(connection, name) == before


def test_a_layer_is_not_rolled_back(connection, halting, tmp_path):
    name = halting.name
    domains.destroy(connection, name)
    assert deploy(connection, renewed(halting, tmp_path)) is None
    virsh(f"snapshot-create-as {name} s1 --disk-only --no-metadata")
    with pytest.raises(RequestRefusedError, match="stands on the root volume"):
        rollback.roll_back(session(tmp_path), name, 1, Policy(force=True))
    assert domains.state(connection, name) == "running"


@pytest.mark.parametrize("kind", ["snapshot", "checkpoint"])
def test_what_libvirt_keeps_of_a_machine_is_not_forgotten_with_it(
    connection, halting, pool, tmp_path, kind
):
    name = halting.name
    if kind == "snapshot":
        domains.destroy(connection, name)
    for each in ("k1", "k2"):
        virsh(f"{kind}-create-as {name} {each}")
    with pytest.raises(RequestRefusedError, match=f"has 2 {kind}s: k1, k2") as refusal:
        undefine.removals(session(tmp_path), [name], keep_volumes=False)
    # Nothing stands in the way of a change: what was kept stays as it was.
    assert deploy(connection, changed(halting, title="web")) is None
    for command in refusal.value.hint.partition("any more: ")[2].rstrip(".").split(" && "):
        virsh(command.removeprefix("virsh "))
    (removal,) = undefine.removals(session(tmp_path), [name], keep_volumes=False)
    assert removal.machine == name


def test_what_a_snapshot_holds_outlives_its_generation(connection, halting, pool, tmp_path):
    name = halting.name

    def unneeded():
        found = garbage.unneeded(session(tmp_path), keep=1, older_than=timedelta())
        ours = {volume.name for volume in found.volumes if volume.pool == pool.name}
        told.update((kept.volume, kept.reason) for kept in found.kept)
        return ours & {generation_volume(name, number) for number in (1, 2, 3)}

    told = {}
    domains.destroy(connection, name)
    virsh(f"snapshot-create-as {name} s1")
    before = domains.read_metadata(connection, name)
    newest = renewed(halting, tmp_path)
    for declared in (newest, halting):
        assert deploy(connection, declared) is None
        domains.destroy(connection, name)
    assert unneeded() == set()
    assert told[generation_volume(name, 1)] == f"snapshot 's1' of domain '{name}' holds it"
    virsh(f"snapshot-revert {name} s1")
    assert domains.read_metadata(connection, name) == before
    virsh(f"snapshot-delete {name} s1")
    assert deploy(connection, newest) is None


def test_nothing_is_changed_while_a_block_job_runs(connection, halting, pool, tmp_path):
    name = halting.name
    handle = connection.handle.lookupByName(name)
    copy = f"<disk type='file'><driver type='raw'/><source file='{pool.path}/copy.raw'/></disk>"
    handle.blockCopy("vdb", copy, flags=libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB)
    wanted = changed(halting, title="web")
    try:
        # What is as declared is nobody's business.
        assert planned(connection, halting).refusal is None
        refused = planned(connection, wanted)
        assert refused.refusal == f"a block copy of disk vdb of '{name}' is going on"
        with pytest.raises(RequestRefusedError, match="block copy"):
            undefine.removals(session(tmp_path), [name], keep_volumes=False)
    finally:
        virsh(f"blockjob {name} vdb --abort")
    assert deploy(connection, wanted) is None


def test_nothing_is_changed_while_a_backup_is_made(connection, halting, pool, tmp_path):
    name = halting.name
    backup = tmp_path / "backup.xml"
    backup.write_text(
        "<domainbackup mode='pull'><server name='localhost' port='10809'/><disks>"
        f"<disk name='vdb' type='file'><scratch file='{pool.path}/scratch'/></disk>"
        "<disk name='vda' backup='no'/></disks></domainbackup>"
    )
    virsh(f"backup-begin {name} {backup}")
    assert planned(connection, changed(halting, title="web")).refusal == (
        f"a backup of disk vdb of '{name}' is going on"
    )
    virsh(f"domjobabort {name}")
    assert deploy(connection, changed(halting, title="web")) is None


def test_a_disk_that_was_moved_by_others_is_not_put_back(connection, halting, pool):
    name = halting.name
    other = f"{pool.path}/elsewhere.qcow2"
    virsh(f"blockcopy {name} vda {other} --format qcow2 --transient-job --wait --pivot")
    made = planned(connection, changed(halting, title="web"))
    assert made.refusal == (
        f"{other} is in the place of the root volume of '{name}', {generation_volume(name, 1)}"
    )
    assert f"virsh detach-disk {name} vda --config" in made.hint
    domains.destroy(connection, name)
    virsh(f"detach-disk {name} vda --config")
    assert deploy(connection, halting) is None
    assert planned(connection, halting).differences == ()
