# SPDX-License-Identifier: GPL-3.0-or-later
"""What other tools do to the disks of our machines, by the commands that people give.

The guests do nothing but say a word on the serial line.
"""

import shlex
import subprocess
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import libvirt
import msgspec
import pytest

from pyguixvm import history, operations
from pyguixvm.errors import RequestRefusedError
from pyguixvm.events import ignore
from pyguixvm.guix.store import Store
from pyguixvm.hypervisor import domains
from pyguixvm.hypervisor.observe import observe
from pyguixvm.model.deployment import ConsoleReady, DataDisk, LocalImage
from pyguixvm.model.names import data_volume, generation_volume
from pyguixvm.pipeline import Session
from pyguixvm.reconcile.apply import apply
from pyguixvm.reconcile.plan import Policy
from pyguixvm.reconcile.planner import plan
from pyguixvm.reconcile.status import statuses
from pyguixvm.reconcile.workshop import Workshop

MIB = 1024**2
# Write "up" to the first serial line, and halt.
BOOT_SECTOR = bytes.fromhex("ba f803 b0 75 ee b0 70 ee b0 0a ee fa f4 eb fd")


@pytest.fixture
def machine(connection, a_machine, pool, tmp_path):
    """A deployed machine that runs, with a data disk; all of it goes at the end."""
    image = tmp_path / "image.raw"
    image.write_bytes(BOOT_SECTOR.ljust(510, b"\0") + b"\x55\xaa")
    declared = a_machine(
        ready=(ConsoleReady("up"),),
        pool=pool.name,
        disks=(DataDisk(name="db", size=128 * MIB, file_system="ext4", target=None),),
    )
    declared = with_image(declared, image)
    deploy(connection, declared)
    yield declared
    handle = connection.handle.lookupByName(declared.name)
    with suppress(libvirt.libvirtError):
        handle.destroy()
    for snapshot in handle.listAllSnapshots():
        snapshot.delete(libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY)
    for checkpoint in handle.listAllCheckpoints():
        checkpoint.delete(libvirt.VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY)
    handle.undefine()


def with_image(machine, image):
    with image.open("ab") as file:
        file.truncate(16 * MIB)
    modified = int(image.stat().st_mtime)
    local = LocalImage(path=str(image), format="raw", size=16 * MIB, modified=modified)
    return msgspec.structs.replace(machine, image=local)


def changed(machine, **fields):
    domain = msgspec.structs.replace(machine.domain, **fields)
    return msgspec.structs.replace(machine, domain=domain)


def renewed(machine, directory):
    """Return MACHINE with another image, which means another root volume."""
    image = directory / "another.raw"
    image.write_bytes(Path(machine.image.path).read_bytes())
    return with_image(machine, image)


def metadata_of(connection, name):
    return domains.read_metadata(connection, name)


def planned(connection, machine, **policy):
    (made,) = plan([machine], observe(connection), policy=Policy(**policy)).machines
    return made


def deploy(connection, machine, **policy):
    """Deploy MACHINE; return what was an error."""
    made = plan([machine], observe(connection), policy=Policy(**policy))
    store = Store(lambda: pytest.fail("Guix is not needed"), Path("/nonexistent"), ignore)
    workshop = Workshop(connection, ignore, {"PYGUIXVM_VIRT_TYPE": "qemu"}, store)
    (outcome,) = apply(made, workshop)
    return outcome.error


def session(tmp_path):
    environment = {"XDG_STATE_HOME": str(tmp_path / "state"), "PYGUIXVM_VIRT_TYPE": "qemu"}
    return Session("qemu:///system", (), environment, ignore, ignore)


def virsh(command):
    done = subprocess.run(
        ["virsh", "-q", *shlex.split(command)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


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
    connection, machine, pool, tmp_path, state, metadata
):
    name = machine.name
    root, data = generation_volume(name, 1), data_volume(name, "db")
    if state == "shut off":
        domains.destroy(connection, name)
    virsh(f"snapshot-create-as {name} s1 --disk-only {metadata}")
    layer = root.replace(".qcow2", ".s1")
    before = domains.inactive_xml(connection, name)

    (status,) = statuses([machine], observe(connection))
    assert status.status == "drifted"
    assert [(d.path, d.new, d.effect) for d in status.differences] == [
        ("root", root, "none"),
        ("domain.disks.db", data, "none"),
    ]
    assert status.differences[0].old == f"{layer}, a snapshot's layer on it"
    assert status.foreign == ()

    for declared in (
        machine,
        changed(machine, title="web"),
        changed(machine, disks=()),
        changed(machine, disks=(DataDisk("db", 256 * MIB, "ext4", None),)),
        renewed(machine, tmp_path),
    ):
        made = planned(connection, declared)
        assert made.actions == ()
        assert f"'{layer}', stands on the root volume of '{name}'" in made.refusal
        assert isinstance(deploy(connection, declared), RequestRefusedError)
    with pytest.raises(RequestRefusedError, match="s1"):
        operations.removals(session(tmp_path), [name], keep_volumes=False)
    assert domains.inactive_xml(connection, name) == before

    told(planned(connection, machine).hint)
    wanted = changed(renewed(machine, tmp_path), title="web", disks=machine.domain.disks)
    domains.destroy(connection, name)
    assert deploy(connection, wanted) is None
    (status,) = statuses([wanted], observe(connection))
    assert (status.status, status.generation) == ("deployed", 2)


def test_what_was_written_to_a_layer_is_there_after_the_commands(connection, machine, pool):
    name = machine.name
    domains.destroy(connection, name)
    data = data_volume(name, "db")
    write(pool, data, "0x11")
    virsh(f"snapshot-create-as {name} s1 --disk-only")
    write(pool, data.replace(".qcow2", ".s1"), "0x22")
    virsh(f"snapshot-create-as {name} s2 --disk-only --no-metadata")
    write(pool, data.replace(".qcow2", ".s2"), "0x33")
    refused = planned(connection, changed(machine, title="web"))
    assert f"'{data.replace('.qcow2', '.s2')}', stands on data disk 'db'" in refused.refusal
    # The newest was made without a word to libvirt: it can only be committed.
    assert "blockcommit" in refused.hint
    told(refused.hint)
    assert deploy(connection, changed(machine, title="web")) is None
    domains.destroy(connection, name)
    assert read(f"{pool.path}/{data}", "0x33")


def test_snapshots_upon_each_other_are_merged_in_turn(connection, machine):
    for snapshot in ("s1", "s2"):
        virsh(f"snapshot-create-as {machine.name} {snapshot} --disk-only")
    hint = planned(connection, machine).hint
    assert hint.count("snapshot-delete") == 2
    told(hint)
    assert planned(connection, machine).differences == ()
    assert deploy(connection, changed(machine, title="web")) is None


def test_a_layer_that_comes_after_the_plan_is_seen_before_the_definition(
    connection, machine, tmp_path
):
    name = machine.name
    made = plan([changed(machine, title="web")], observe(connection))
    virsh(f"snapshot-create-as {name} s1 --disk-only --no-metadata")
    before = domains.inactive_xml(connection, name)
    workshop = Workshop(connection, ignore, {"PYGUIXVM_VIRT_TYPE": "qemu"}, None)
    (outcome,) = apply(made, workshop)
    assert "stands on the root volume" in outcome.error.message
    assert domains.inactive_xml(connection, name) == before


def test_a_layer_is_not_rolled_back(connection, machine, tmp_path):
    name = machine.name
    domains.destroy(connection, name)
    assert deploy(connection, renewed(machine, tmp_path)) is None
    virsh(f"snapshot-create-as {name} s1 --disk-only --no-metadata")
    with pytest.raises(RequestRefusedError, match="stands on the root volume"):
        history.roll_back(session(tmp_path), name, 1, force=True, unprotect=False)
    assert domains.state(connection, name) == "running"


@pytest.mark.parametrize("kind", ["snapshot", "checkpoint"])
def test_what_libvirt_keeps_of_a_machine_is_not_forgotten_with_it(
    connection, machine, pool, tmp_path, kind
):
    name = machine.name
    if kind == "snapshot":
        domains.destroy(connection, name)
    for each in ("k1", "k2"):
        virsh(f"{kind}-create-as {name} {each}")
    with pytest.raises(RequestRefusedError, match=f"has 2 {kind}s: k1, k2") as refusal:
        operations.removals(session(tmp_path), [name], keep_volumes=False)
    # Nothing stands in the way of a change: what was kept stays as it was.
    assert deploy(connection, changed(machine, title="web")) is None
    for command in refusal.value.hint.partition("any more: ")[2].rstrip(".").split(" && "):
        virsh(command.removeprefix("virsh "))
    (removal,) = operations.removals(session(tmp_path), [name], keep_volumes=False)
    assert removal.machine == name


def test_what_a_snapshot_holds_outlives_its_generation(connection, machine, pool, tmp_path):
    name = machine.name

    def unneeded():
        found = history.unneeded(session(tmp_path), keep=1, older_than=timedelta())
        ours = {volume.name for volume in found.volumes if volume.pool == pool.name}
        return ours & {generation_volume(name, number) for number in (1, 2, 3)}

    domains.destroy(connection, name)
    virsh(f"snapshot-create-as {name} s1")
    before = metadata_of(connection, name)
    newest = renewed(machine, tmp_path)
    for declared in (newest, machine):
        assert deploy(connection, declared) is None
        domains.destroy(connection, name)
    assert unneeded() == set()
    virsh(f"snapshot-revert {name} s1")
    assert metadata_of(connection, name) == before
    virsh(f"snapshot-delete {name} s1")
    assert deploy(connection, newest) is None


def test_nothing_is_changed_while_a_block_job_runs(connection, machine, pool, tmp_path):
    name = machine.name
    handle = connection.handle.lookupByName(name)
    copy = f"<disk type='file'><driver type='raw'/><source file='{pool.path}/copy.raw'/></disk>"
    handle.blockCopy("vdb", copy, flags=libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB)
    wanted = changed(machine, title="web")
    try:
        # What is as declared is nobody's business.
        assert planned(connection, machine).refusal is None
        refused = planned(connection, wanted)
        assert refused.refusal == f"a block copy of disk vdb of '{name}' is going on"
        with pytest.raises(RequestRefusedError, match="block copy"):
            operations.removals(session(tmp_path), [name], keep_volumes=False)
    finally:
        virsh(f"blockjob {name} vdb --abort")
    assert deploy(connection, wanted) is None


def test_nothing_is_changed_while_a_backup_is_made(connection, machine, pool, tmp_path):
    name = machine.name
    backup = tmp_path / "backup.xml"
    backup.write_text(
        "<domainbackup mode='pull'><server name='localhost' port='10809'/><disks>"
        f"<disk name='vdb' type='file'><scratch file='{pool.path}/scratch'/></disk>"
        "<disk name='vda' backup='no'/></disks></domainbackup>"
    )
    virsh(f"backup-begin {name} {backup}")
    assert planned(connection, changed(machine, title="web")).refusal == (
        f"a backup of disk vdb of '{name}' is going on"
    )
    virsh(f"domjobabort {name}")
    assert deploy(connection, changed(machine, title="web")) is None


def test_a_disk_that_was_moved_by_others_is_not_put_back(connection, machine, pool):
    name = machine.name
    other = f"{pool.path}/elsewhere.qcow2"
    virsh(f"blockcopy {name} vda {other} --format qcow2 --transient-job --wait --pivot")
    made = planned(connection, changed(machine, title="web"))
    assert made.refusal == (
        f"{other} is in the place of the root volume of '{name}', {generation_volume(name, 1)}"
    )
    assert f"virsh detach-disk {name} vda --config" in made.hint
    domains.destroy(connection, name)
    virsh(f"detach-disk {name} vda --config")
    assert deploy(connection, machine) is None
    assert planned(connection, machine).differences == ()
