# SPDX-License-Identifier: GPL-3.0-or-later
"""What other people do to our machines, by virsh, is seen and respected.

What they do to disks is in test_interference.py.  The guests do nothing but say a word on the
serial line.
"""

import os
import re
import signal
import subprocess
from pathlib import Path

import boot_sector
import msgspec
import pytest
from deploying import MIB, changed, deploy, planned, renewed, session, take_away, virsh, with_image
from waiting import eventually

from pyguixvm.apply.context import Workshop
from pyguixvm.apply.executor import apply
from pyguixvm.commands import power, rollback
from pyguixvm.errors import HypervisorError, RequestRefusedError
from pyguixvm.events import Notice, ignore
from pyguixvm.hypervisor import domains, volumes
from pyguixvm.hypervisor.connection import connect
from pyguixvm.hypervisor.observe import Depth, observe
from pyguixvm.model.declaration import ConsoleReady, MountPoint
from pyguixvm.model.volume_names import data_volume, generation_volume
from pyguixvm.plan.plan import Policy
from pyguixvm.plan.planner import plan
from pyguixvm.plan.status import statuses


def status_of(connection, machine):
    (found,) = statuses([machine], observe(connection))
    return found


def defined_by_hand(name, change, directory):
    """Define domain NAME as `virsh edit` does, with the XML that CHANGE makes of its own."""
    xml = directory / "edited.xml"
    xml.write_text(change(virsh(f"dumpxml --inactive --security-info {name}")))
    virsh(f"define {xml}")


def test_a_guest_whose_memory_is_kept_is_not_started_on_another_root(connection, halting, tmp_path):
    name = halting.name
    virsh(f"managedsave {name}")
    found = status_of(connection, halting)
    assert found.status == "stopped"
    assert "its memory is kept" in found.detail
    before = virsh(f"dumpxml --inactive {name}")
    for wanted in (halting, changed(halting, title="other"), renewed(halting, tmp_path)):
        refusal = planned(connection, wanted)
        assert f"the memory of '{name}' is kept, as 'virsh managedsave' does" in refusal.refusal
        assert f"pyguixvm start {name}" in refusal.hint
        assert f"virsh managedsave-remove {name}" in refusal.hint
        assert deploy(connection, wanted).status == 1
    assert virsh(f"dumpxml --inactive {name}") == before
    assert "Managed save:   yes" in virsh(f"dominfo {name}")
    # What it says on its console when it boots is not waited for.
    (went_on,) = power.start(session(tmp_path), [name])
    assert went_on.detail == "goes on from where it was"
    assert "Managed save:   no" in virsh(f"dominfo {name}")
    assert deploy(connection, changed(halting, title="other")) is None


def test_a_guest_whose_memory_is_kept_is_not_rolled_back(connection, halting, tmp_path):
    newer = renewed(halting, tmp_path)
    assert deploy(connection, newer, force=True, stop_timeout=1) is None
    virsh(f"managedsave {halting.name}")
    policy = Policy(force=True, stop_timeout=1)
    with pytest.raises(RequestRefusedError, match="is kept"):
        rollback.roll_back(session(tmp_path), halting.name, 1, policy)
    assert domains.read_metadata(connection, halting.name).current == 2
    assert "Managed save:   yes" in virsh(f"dominfo {halting.name}")
    virsh(f"managedsave-remove {halting.name}")


def test_a_machine_that_was_undefined_while_it_ran_is_defined_again(connection, halting):
    """Else it would be gone, with all that it remembers, when its guest stops."""
    name = halting.name
    metadata = domains.read_metadata(connection, name)
    virsh(f"undefine {name}")
    found = status_of(connection, halting)
    assert found.status == "drifted"
    assert "domain.persistent" in [each.path for each in found.differences]
    assert planned(connection, halting).effect == "live"
    assert deploy(connection, halting) is None
    assert status_of(connection, halting).status == "deployed"
    domains.destroy(connection, name)
    # But for who deployed it last.
    found = domains.read_metadata(connection, name)
    untold = msgspec.structs.replace(found.generation, deploy=metadata.generation.deploy)
    assert found.having(untold) == metadata


def test_a_password_that_was_set_by_hand_stays(connection, halting, tmp_path):
    def with_display(xml):
        display = "<graphics type='vnc' autoport='yes' passwd='mellon'/>"
        return xml.replace("</devices>", f"{display}</devices>")

    name = halting.name
    defined_by_hand(name, with_display, tmp_path)
    assert deploy(connection, changed(halting, title="other")) is None
    assert "passwd='mellon'" in virsh(f"dumpxml --inactive --security-info {name}")


def test_firmware_that_was_changed_by_hand_is_seen_and_put_back(connection, halting, tmp_path):
    def with_uefi(xml):
        return re.sub(r"<os>", "<os firmware='efi'>", xml)

    name = halting.name
    defined_by_hand(name, with_uefi, tmp_path)
    found = status_of(connection, halting)
    assert [(each.path, each.old, each.new) for each in found.differences] == [
        ("domain.firmware", "uefi", "bios")
    ]
    assert deploy(connection, halting) is None
    assert "efi" not in virsh(f"dumpxml --inactive {name}")
    assert status_of(connection, halting).status == "deployed"


@pytest.mark.parametrize("how", ["vol-delete", "behind libvirt's back"])
def test_a_root_that_was_deleted_under_its_guest_is_told_and_not_given_up(
    connection, halting, pool, tmp_path, how
):
    name = halting.name
    volume = generation_volume(name, 1)
    if how == "vol-delete":
        virsh(f"vol-delete {volume} --pool {pool.name}")
    else:
        Path(pool.path, volume).unlink()
    found = status_of(connection, halting)
    assert ("root", "gone") in [(each.path, each.old) for each in found.differences]
    policy = {"force": True, "stop_timeout": 1}
    for wanted in (halting, changed(halting, title="other"), renewed(halting, tmp_path)):
        refused = planned(connection, wanted, **policy)
        assert f"{volume}, was deleted while its guest runs" in refused.refusal
        assert f"pyguixvm destroy {name}" in refused.hint
        assert deploy(connection, wanted, **policy).status == 1
        assert domains.state(connection, name) == "running"
    domains.destroy(connection, name)
    assert deploy(connection, halting) is None
    assert status_of(connection, halting).status == "deployed"


@pytest.mark.parametrize("how", ["vol-delete", "rm"])
def test_data_that_was_deleted_under_its_guest_is_told_and_not_given_up(
    connection, halting, pool, tmp_path, how
):
    """Its file is open, and is there as long as the guest runs."""
    name, volume = halting.name, data_volume(halting.name, "db")
    if how == "vol-delete":
        virsh(f"vol-delete {volume} --pool {pool.name}")
    else:
        Path(pool.path, volume).unlink()
    found = status_of(connection, halting)
    assert ("domain.disks.db", "gone") in [(each.path, each.old) for each in found.differences]
    policy = {"force": True, "stop_timeout": 1}
    for wanted in (
        changed(halting, title="other", cpu=2, maximum_cpu=2),
        renewed(halting, tmp_path),
    ):
        refused = planned(connection, wanted, **policy)
        assert f"{volume}, was deleted while its guest runs" in refused.refusal
        assert f"pyguixvm destroy {name}" in refused.hint
        assert deploy(connection, wanted, **policy).status == 1
        assert domains.state(connection, name) == "running"


def test_data_that_is_deleted_after_the_plan_is_not_given_up(connection, halting, pool, tmp_path):
    wanted = renewed(halting, tmp_path)
    made = plan([wanted], observe(connection), policy=Policy(force=True, stop_timeout=1))
    Path(pool.path, data_volume(halting.name, "db")).unlink()
    workshop = Workshop(connection, ignore, {"PYGUIXVM_VIRT_TYPE": "qemu"}, None)
    (outcome,) = apply(made, workshop)
    assert "was deleted while its guest runs" in outcome.error.message
    assert domains.state(connection, halting.name) == "running"


def test_a_root_that_is_deleted_after_the_plan_is_not_given_up(connection, halting, pool, tmp_path):
    wanted = renewed(halting, tmp_path)
    made = plan([wanted], observe(connection), policy=Policy(force=True, stop_timeout=1))
    Path(pool.path, generation_volume(halting.name, 1)).unlink()
    workshop = Workshop(connection, ignore, {"PYGUIXVM_VIRT_TYPE": "qemu"}, None)
    (outcome,) = apply(made, workshop)
    assert "was deleted while its guest runs" in outcome.error.message
    assert domains.state(connection, halting.name) == "running"


def test_a_pool_that_somebody_stopped_is_started_for_what_is_in_it(connection, halting, pool):
    domains.destroy(connection, halting.name)
    virsh(f"pool-destroy {pool.name}")
    assert deploy(connection, changed(halting, title="other")) is None
    assert domains.state(connection, halting.name) == "running"


@pytest.mark.parametrize("running", [True, False], ids=["running", "off"])
def test_a_pool_that_somebody_stopped_is_started_for_a_disk_that_grows(
    connection, halting, pool, running
):
    """Found by a campaign: SEED=7113."""
    (disk,) = halting.domain.disks
    if not running:
        domains.destroy(connection, halting.name)
    virsh(f"pool-destroy {pool.name}")
    grown = msgspec.structs.replace(disk, size=disk.size + 64 * MIB)
    assert deploy(connection, changed(halting, disks=(grown,))) is None
    path = domains.disks(connection, halting.name)[1]
    assert volumes.at(connection, path).capacity == grown.size


def test_a_console_that_was_taken_out_is_seen_and_put_back(connection, halting, tmp_path):
    def without_lines(xml):
        return re.sub(r"(?s)<(serial|console|channel) .*?</\1>", "", xml)

    name = halting.name
    domains.destroy(connection, name)
    defined_by_hand(name, without_lines, tmp_path)
    found = status_of(connection, halting)
    assert [(each.path, each.old) for each in found.differences] == [
        ("domain.console", False),
        ("domain.agent-channel", False),
    ]
    assert deploy(connection, halting) is None
    xml = virsh(f"dumpxml --inactive {name}")
    assert "<serial type='pty'>" in xml
    assert "org.qemu.guest_agent.0" in xml
    assert status_of(connection, halting).status == "deployed"


def test_a_pool_that_somebody_undefined_is_told_before_anything_is_touched(
    connection, halting, pool, tmp_path
):
    name, restart = halting.name, {"force": True, "stop_timeout": 1}
    virsh(f"pool-destroy {pool.name}")
    virsh(f"pool-undefine {pool.name}")
    for wanted in (changed(halting, title="other"), renewed(halting, tmp_path)):
        (made,) = plan([wanted], observe(connection, Depth.HOST), policy=Policy(**restart)).machines
        assert f"pool '{pool.name}', in which '{name}' has " in made.refusal
        assert f"virsh pool-define-as --type dir --target {pool.path} {pool.name}" in made.hint
        assert made.actions == ()
    virsh(f"pool-define-as --type dir --target {pool.path} {pool.name}")
    virsh(f"pool-start {pool.name}")
    # For a connection, a pool stays the one that it was.
    with connect("qemu:///system") as another:
        assert deploy(another, changed(halting, title="other")) is None


def test_an_emulator_that_the_host_lost_is_told_and_replaced(connection, halting, tmp_path):
    """As after an upgrade of a host, and a collection of its garbage."""
    name = halting.name
    there = re.search("<emulator>(.*?)</emulator>", virsh(f"dumpxml --inactive {name}"))[1]
    old = Path(f"/var/lib/libvirt/boot/{name}-qemu")
    old.symlink_to(there)
    domains.destroy(connection, name)
    defined_by_hand(name, lambda xml: xml.replace(there, str(old)), tmp_path)
    assert differs(connection, halting) == []
    old.unlink()
    with pytest.raises(HypervisorError):
        domains.start(connection, name)
    assert differs(connection, halting) == ["domain.emulator"]
    made = plan([halting], observe(connection, Depth.HOST))
    workshop = Workshop(connection, ignore, {"PYGUIXVM_VIRT_TYPE": "qemu"}, None)
    (outcome,) = apply(made, workshop)
    assert outcome.error is None
    assert there in virsh(f"dumpxml --inactive {name}")
    assert differs(connection, halting) == []
    assert domains.state(connection, name) == "running"


def differs(connection, machine):
    (found,) = statuses([machine], observe(connection, Depth.HOST))
    return [each.path for each in found.differences]


def test_a_guest_that_somebody_suspended_is_not_stopped_unless_forced(
    connection, halting, tmp_path
):
    name = halting.name
    virsh(f"suspend {name}")
    before = virsh(f"dumpxml --inactive {name}")
    refused = deploy(connection, renewed(halting, tmp_path))
    assert "is paused by somebody and cannot react" in refused.message
    assert f"virsh resume {name}" in refused.hint
    assert domains.state(connection, name) == "paused"
    assert virsh(f"dumpxml --inactive {name}") == before
    # What takes no answer of its guest is done, and how it goes on is told, be there nothing to do.
    for _ in range(2):
        told = []
        assert deploy(connection, changed(halting, title="other"), told.append) is None
        (warned,) = [each.message for each in told if isinstance(each, Notice) and each.warning]
        assert warned == f"it stays paused by somebody: let it go on with 'virsh resume {name}'"
        assert domains.state(connection, name) == "paused"


@pytest.fixture
def on_sector(connection, a_machine, pool, tmp_path):
    """Deploy a machine whose guest is no more than a SECTOR; it goes at the end."""
    names = []

    def on(sector):
        image = tmp_path / "sector.raw"
        image.write_bytes(sector)
        machine = with_image(a_machine(ready=(ConsoleReady("up"),), pool=pool.name), image)
        names.append(machine.name)
        assert deploy(connection, machine) is None
        return machine

    yield on
    take_away(*names)


@pytest.fixture
def small_pool(pool):
    """The pool, on a file system of 8 MiB."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8M", "none", pool.path], check=True)
    yield pool
    subprocess.run(["umount", "--lazy", pool.path], check=True)


def test_a_guest_that_has_no_room_is_told_and_not_powered_off(
    connection, small_pool, on_sector, tmp_path
):
    machine = on_sector(boot_sector.filling())
    name = machine.name
    eventually(lambda: status_of(connection, machine).reason == "by an I/O error")
    found = status_of(connection, machine)
    assert (found.status, found.detail) == ("stopped", "paused by an I/O error")
    before = virsh(f"dumpxml --inactive {name}")
    newer = renewed(machine, tmp_path)
    refused = planned(connection, newer)
    assert f"'{name}' is paused by an I/O error and cannot react" in refused.refusal
    assert f"room in their pool?), and let it go on with 'virsh resume {name}'" in refused.hint
    assert deploy(connection, newer).message == refused.refusal
    assert virsh(f"dumpxml --inactive {name}") == before
    with pytest.raises(RequestRefusedError, match="by an I/O error"):
        power.start(session(tmp_path), [name])
    subprocess.run(["mount", "-o", "remount,size=64M", small_pool.path], check=True)
    virsh(f"resume {name}")
    root = Path(small_pool.path, generation_volume(name, 1))
    eventually(lambda: root.stat().st_size > 16 * 2**20)
    assert status_of(connection, machine).status == "deployed"


def test_a_guest_without_a_balloon_is_asked_once(connection, halting):
    """It has all the memory that there may be, whatever else it is to have."""
    less = changed(halting, memory=halting.domain.memory // 2)
    for again in (less, changed(less, memory=less.domain.memory - 4 * 2**20)):
        assert deploy(connection, again) is None
        assert planned(connection, again).actions == ()
        found = status_of(connection, again)
        assert "holds on to its memory" in found.detail
        assert [(each.path, each.pending) for each in found.differences] == [
            ("domain.memory", True)
        ]


def test_a_machine_whose_qemu_died_is_told_and_started_again(connection, halting):
    name = halting.name
    os.kill(int(Path(f"/run/libvirt/qemu/{name}.pid").read_text()), signal.SIGKILL)
    eventually(lambda: domains.state(connection, name) == "shut off")
    found = status_of(connection, halting)
    assert (found.status, found.reason) == ("stopped", "its guest, or its QEMU, crashed")
    assert deploy(connection, halting) is None
    assert domains.state(connection, name) == "running"


def test_a_guest_that_crashed_and_was_kept_is_told_and_left_alone(connection, on_sector, tmp_path):
    def with_panic(xml):
        xml = re.sub("<on_crash>.*?</on_crash>", "<on_crash>preserve</on_crash>", xml)
        return xml.replace("</devices>", "<panic model='isa'/></devices>")

    machine = on_sector(boot_sector.panicking())
    name = machine.name
    defined_by_hand(name, with_panic, tmp_path)
    domains.destroy(connection, name)
    virsh(f"start {name}")
    eventually(lambda: domains.state(connection, name) == "crashed")
    found = status_of(connection, machine)
    assert (found.status, found.detail) == ("stopped", "crashed since its kernel panicked")
    newer = renewed(machine, tmp_path)
    for wanted in (machine, changed(machine, title="other"), newer):
        refused = planned(connection, wanted)
        assert f"'{name}' crashed since its kernel panicked and is kept" in refused.refusal
        assert f"virsh dump --memory-only {name} FILE" in refused.hint
        assert f"pyguixvm destroy {name}" in refused.hint
        assert deploy(connection, wanted).message == refused.refusal
    here = session(tmp_path)
    for ask, how in ((power.start, ()), (power.reboot, (1,)), (power.shutdown, (1,))):
        with pytest.raises(RequestRefusedError, match="is kept"):
            ask(here, [name], *how)
    assert planned(connection, newer, force=True).refusal is None
    domains.destroy(connection, name)
    assert planned(connection, newer).refusal is None


@pytest.fixture
def unstartable(connection, halting):
    """A network with the addresses of another one, which is active."""
    name = f"{halting.name}-net"
    network = connection.handle.networkDefineXML(
        f"<network><name>{name}</name><ip address='192.168.122.1' netmask='255.255.255.0'/>"
        "</network>"
    )
    yield name
    network.undefine()


def test_a_network_that_cannot_start_is_told_while_the_guest_runs(connection, halting, unstartable):
    interface = msgspec.structs.replace(halting.domain.networking[0], network=unstartable)
    wanted = changed(halting, networking=(interface,), memory=halting.domain.memory * 2)
    assert runs_on_as_before(connection, halting, wanted).status == 5


def test_what_cannot_start_is_put_back_and_runs(connection, halting):
    """Of a directory that is not there, libvirt says so when the domain starts."""
    mount = MountPoint(source="/not/there", target=None, tag="t", driver="9p", read_only=True)
    wanted = changed(halting, mount_points=(mount,))
    assert runs_on_as_before(connection, halting, wanted).status != 0


def runs_on_as_before(connection, machine, wanted):
    """Deploy what is WANTED; return the error after which MACHINE is as it was, and runs."""
    before = virsh(f"dumpxml --inactive {machine.name}")
    error = deploy(connection, wanted, force=True, stop_timeout=1)
    assert domains.state(connection, machine.name) == "running"
    now = virsh(f"dumpxml --inactive {machine.name}")
    devices = slice(before.index("<devices>"), None)
    assert now[now.index("<devices>") :] == before[devices]
    return error
