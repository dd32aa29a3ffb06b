# SPDX-License-Identifier: GPL-3.0-or-later
"""An update may end at any point: the old or the new generation is there, whole."""

import os
import random
import subprocess
import time
from pathlib import Path

import msgspec
import pytest
from boot_sector import heeding_button
from program import ran

from pyguixvm.apply.context import Workshop
from pyguixvm.apply.executor import apply
from pyguixvm.apply.root_to_be import transfer
from pyguixvm.apply.wait_ready import wait_ready
from pyguixvm.digest.memory import Digests
from pyguixvm.events import ignore
from pyguixvm.guix.store import Store
from pyguixvm.hypervisor import domains, volumes
from pyguixvm.hypervisor.base_volume import BaseVolumes
from pyguixvm.hypervisor.connection import connect
from pyguixvm.hypervisor.guest.evidence import boot
from pyguixvm.hypervisor.machine_lock.lock import holder
from pyguixvm.hypervisor.observe import Depth, observe
from pyguixvm.model.applied import Generation, Metadata
from pyguixvm.model.declaration import ConsoleReady, DataDisk
from pyguixvm.model.image import LocalImage
from pyguixvm.model.volume_names import data_volume, generation_of, is_base
from pyguixvm.plan.actions import StopDomain
from pyguixvm.plan.drift import differences
from pyguixvm.plan.planner import plan
from pyguixvm.plan.strategies.full import new_root
from pyguixvm.xml.inspection import inspect_domain
from pyguixvm.xml.text import parse

MIB = 1024**2
UPDATE = Path(__file__).with_name("update_once.py")
# More than an update has events: then it is not killed.
NEVER = 1000
# What is not an increment asks for none.
NO_STORE = None


STARTED_OR_NOT = ("PhaseStarted", "PhaseFinished")
RESTARTED = Path(__file__).with_name("restart-libvirtd")


def update(machine, event=NEVER, *command):
    return ran(UPDATE, msgspec.json.encode(machine).decode(), event, *command)


@pytest.fixture
def running(connection, heeding, pool, tmp_path):
    """Yield a function that declares another edition of a machine whose first one runs."""
    machine = heeding(pool=pool.name)
    first = Generation(
        number=1,
        date="2026-01-01T00:00:00+00:00",
        label="first",
        pool=pool.name,
        volume=f"pyguixvm-{machine.name}.g1.qcow2",
        image="/image",
        declaration=machine,
    )
    domains.write_metadata(connection, machine.name, Metadata(current=1, generations=(first,)))
    with boot(connection, machine) as evidence:
        assert wait_ready(machine, evidence, deadline=time.monotonic() + 90).outcome == "ready"

    def edition(number):
        image = tmp_path / f"edition-{number}.raw"
        image.write_bytes(heeding_button("up\r\n"))
        os.truncate(image, 16 * MIB)
        status = image.stat()
        local = LocalImage(
            path=str(image), format="raw", size=status.st_size, modified=int(status.st_mtime)
        )
        # Each edition's disk is larger.
        disk = DataDisk(name="db", size=(128 + number) * MIB, file_system="ext4", target=None)
        domain = msgspec.structs.replace(machine.domain, disks=(disk,))
        return msgspec.structs.replace(machine, image=local, domain=domain)

    return edition


def whole_root(connection, machine):
    """Whether the root volume of the current generation is there, complete."""
    current = domains.read_metadata(connection, machine.name).generation
    return volumes.lookup(connection, current.pool, current.volume) is not None and domains.disks(
        connection, machine.name
    )[0].endswith(current.volume)


def root_in_use(connection, machine):
    """Return the file that the guest of MACHINE runs on."""
    live = connection.handle.lookupByName(machine.name).XMLDesc(0)
    return inspect_domain(live).hardware.disks[0]


SWITCH = [f"{event} {phase}" for phase in ("stop", "define", "start") for event in STARTED_OR_NOT]


@pytest.mark.parametrize("event", SWITCH)
def test_whatever_is_raised_in_a_switch_a_guest_runs_on_a_root_that_is_there(
    connection, running, pool, event
):
    machine = running(2)
    raised = update(machine, event, "false")
    assert raised.returncode == 1
    assert "CalledProcessError" in raised.stderr
    assert domains.state(connection, machine.name) == "running"
    assert whole_root(connection, machine)
    assert root_in_use(connection, machine) == domains.disks(connection, machine.name)[0]
    again = update(machine)
    assert again.returncode == 0, again.stderr
    observed = observe(connection).domains[machine.name]
    assert differences(machine, observed) == ()
    assert root_in_use(connection, machine) == domains.disks(connection, machine.name)[0]
    left = {volume.name for volume in volumes.list_ours(connection, pool.name)}
    known = {g.volume for g in observed.metadata.generations}
    assert {n for n in left if not is_base(n)} == known | {data_volume(machine.name, "db")}
    assert all(volumes.is_whole(connection, pool.name, name) for name in left)


def declared(connection, machine, **fields):
    """Return what MACHINE runs as, with other FIELDS of its domain."""
    deployed = domains.read_metadata(connection, machine.name).generation.declaration
    return msgspec.structs.replace(
        deployed, domain=msgspec.structs.replace(deployed.domain, **fields)
    )


HUGE = {"memory": 9999 * 1024 * MIB, "maximum_memory": 9999 * 1024 * MIB}


def test_what_cannot_start_is_put_back_as_it_was_and_runs(connection, running):
    machine = running(2)
    deployed = update(machine)
    assert deployed.returncode == 0, deployed.stderr
    before = domains.whole_definition(connection, machine.name)
    failed = update(declared(connection, machine, **HUGE))
    assert failed.returncode == 1
    assert "annot allocate memory" in failed.stderr
    assert "the old definition runs again" in failed.stderr
    assert domains.state(connection, machine.name) == "running"
    assert domains.whole_definition(connection, machine.name) == before


def test_a_new_root_goes_with_a_definition_that_cannot_start(connection, running, pool):
    machine = running(2)
    before = domains.whole_definition(connection, machine.name)
    huge = msgspec.structs.replace(machine.domain, **HUGE)
    failed = update(msgspec.structs.replace(machine, domain=huge))
    assert failed.returncode == 1
    assert "the old definition runs again" in failed.stderr
    assert domains.state(connection, machine.name) == "running"
    assert domains.whole_definition(connection, machine.name) == before
    left = {volume.name for volume in volumes.list_ours(connection, pool.name)}
    root = domains.read_metadata(connection, machine.name).generation.volume
    assert {n for n in left if not is_base(n)} == {root, data_volume(machine.name, "db")}
    mended = update(machine)
    assert mended.returncode == 0, mended.stderr


def test_what_the_host_does_not_have_is_refused_before(connection, running):
    machine = running(2)
    observation = observe(connection, Depth.HOST)
    assert observation.host.memory > 0
    too_much = {"maximum_cpu": observation.host.maximum_cpu + 1}
    for fields, given in ((HUGE, "9999G"), (too_much, f"{too_much['maximum_cpu']} vCPUs")):
        (made,) = plan([declared(connection, machine, **fields)], observation).machines
        assert given in made.refusal
        assert made.actions == ()
    (made,) = plan([declared(connection, machine)], observation).machines
    assert made.refusal is None


def test_another_clock_takes_a_restart_and_libvirt_keeps_it(connection, running):
    machine = running(2)
    deployed = update(machine)
    assert deployed.returncode == 0, deployed.stderr
    local = declared(connection, machine, clock="localtime")

    def found():
        here = differences(local, observe(connection).domains[machine.name])
        return [(each.path, each.old, each.new, each.effect, each.pending) for each in here]

    clock = "domain.clock"
    assert found() == [(clock, "utc", "localtime", "restart", False)]
    handle = connection.handle.lookupByName(machine.name)
    xml = domains.inactive_xml(connection, machine.name)
    domains.define(connection, xml.replace("'utc'", "'localtime'"))
    assert found() == [(clock, "utc", "localtime", "restart", True)]
    elsewhere = "<clock offset='timezone' timezone='Europe/Berlin'"
    domains.define(connection, xml.replace("<clock offset='utc'", elsewhere))
    restarted = update(local)
    assert restarted.returncode == 0, restarted.stderr
    assert found() == []
    live = parse(handle.XMLDesc(0)).find("clock")
    assert dict(live.attrib)["offset"] == "localtime"
    assert len(live.findall("timer")) == 3


def test_a_guest_that_does_not_stop_goes_on_with_the_definition_that_it_has(
    connection, tiny_machine, pool
):
    machine = tiny_machine("deaf", ready=(ConsoleReady("tiny prompt"),), pool=pool.name)
    first = Generation(
        number=1,
        date="2026-01-01T00:00:00+00:00",
        label="first",
        pool=machine.domain.pool,
        volume=f"pyguixvm-{machine.name}.g1.qcow2",
        image="/image",
        declaration=machine,
    )
    domains.write_metadata(connection, machine.name, Metadata(current=1, generations=(first,)))
    domains.start(connection, machine.name)
    before = domains.whole_definition(connection, machine.name)
    larger = declared(connection, machine, memory=300 * MIB, maximum_memory=300 * MIB)
    made = plan([larger], observe(connection, Depth.RECORDS))
    (machine_plan,) = made.machines
    impatient = tuple(
        msgspec.structs.replace(action, timeout=1) if isinstance(action, StopDomain) else action
        for action in machine_plan.actions
    )
    machine_plan = msgspec.structs.replace(machine_plan, actions=impatient)
    workshop = Workshop(connection, ignore, {"PYGUIXVM_VIRT_TYPE": "qemu"}, NO_STORE)
    (outcome,) = apply(msgspec.structs.replace(made, machines=(machine_plan,)), workshop)
    assert "still runs after 1 s" in outcome.error.message
    assert domains.state(connection, machine.name) == "running"
    assert domains.whole_definition(connection, machine.name) == before


def signalled(*names):
    return ("sh", "-c", "; ".join(f"kill -{name} $UPDATE_PROCESS" for name in names))


@pytest.mark.parametrize(
    ("event", "signals"),
    [
        *((event, ["TERM"]) for event in SWITCH),
        ("PhaseFinished stop", ["HUP"]),
        ("PhaseFinished stop", ["INT"]),
        ("PhaseStarted stop", ["INT", "TERM"]),
        ("PhaseFinished stop", ["TERM", "HUP", "INT"]),
        ("PhaseFinished define", ["TERM", "HUP"]),
    ],
)
def test_a_switch_that_is_interrupted_is_finished_first(connection, running, event, signals):
    machine = running(2)
    ended = update(machine, event, *signalled(*signals))
    assert ended.returncode == 130, ended.stderr
    assert "interrupted: a guest is away, and is started first" in ended.stderr
    assert domains.state(connection, machine.name) == "running"
    observed = observe(connection).domains[machine.name]
    assert observed.metadata.current == 2
    assert whole_root(connection, machine)
    assert root_in_use(connection, machine) == domains.disks(connection, machine.name)[0]
    # It was not waited for, so nobody knows yet whether it gets ready.
    assert observed.metadata.fallback == 1
    assert holder(connection, machine.name) is None


@pytest.mark.parametrize("name", ["TERM", "HUP", "INT"])
def test_before_a_switch_an_interruption_leaves_all_as_it_was(connection, running, pool, name):
    machine = running(2)
    ended = update(machine, "PhaseFinished transfer", *signalled(name))
    assert ended.returncode == 130, ended.stderr
    assert domains.state(connection, machine.name) == "running"
    metadata = domains.read_metadata(connection, machine.name)
    assert metadata.current == 1
    left = {volume.name for volume in volumes.list_ours(connection, pool.name)}
    assert {n for n in left if not is_base(n)} - {data_volume(machine.name, "db")} == {
        metadata.generation.volume
    }


@pytest.mark.parametrize(
    "event",
    ["PhaseStarted transfer", "PhaseFinished stop", "PhaseFinished define", "PhaseFinished start"],
)
def test_libvirtd_may_restart_meanwhile(running, event):
    machine = running(2)
    # What its guest said meanwhile is lost, and is waited for.
    update(msgspec.structs.replace(machine, ready_timeout=5), event, RESTARTED)
    with connect("qemu:///system") as connection:
        assert whole_root(connection, machine)
        if domains.state(connection, machine.name) == "shut off":
            domains.start(connection, machine.name)
        again = update(machine)
        assert again.returncode == 0, again.stderr
    # What it is, it still is with another libvirtd and after a definition that changes nothing.
    subprocess.run([RESTARTED], check=True)
    virsh = ["virsh", "--quiet", "-c", "qemu:///system"]
    xml = subprocess.check_output([*virsh, "dumpxml", "--inactive", machine.name])
    subprocess.run([*virsh, "define", "/dev/stdin"], input=xml, check=True)
    with connect("qemu:///system") as connection:
        observed = observe(connection).domains[machine.name]
        assert differences(machine, observed) == ()
        assert observed.metadata.fallback is None
        assert holder(connection, machine.name) is None


def test_a_full_pool_is_noticed_while_the_old_guest_runs(connection, running, tmp_path):
    machine = running(2)
    Path(machine.image.path).write_bytes(random.Random(2).randbytes(16 * MIB))
    name = f"{machine.name}-full"
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8M", "none", small], check=True)
    full = connection.handle.storagePoolDefineXML(
        f"<pool type='dir'><name>{name}</name><target><path>{small}</path></target></pool>"
    )
    full.create()
    try:
        domain = msgspec.structs.replace(machine.domain, pool=name)
        refused = update(msgspec.structs.replace(machine, domain=domain))
        assert refused.returncode == 1
        assert "needs 16M" in refused.stderr
        assert "has 8M free" in refused.stderr
        assert domains.state(connection, machine.name) == "running"
        assert domains.read_metadata(connection, machine.name).current == 1
        full.refresh()
        assert full.listVolumes() == []
    finally:
        full.destroy()
        full.undefine()
        subprocess.run(["umount", small], check=True)


def test_what_an_image_takes_to_send_is_known_before(connection, running, tmp_path):
    store = Store(lambda: pytest.fail("Guix is not needed"), ignore)
    machine, digests = running(2), Digests(tmp_path / "state")
    action = new_root(machine, 2)
    missing = msgspec.structs.replace(action, image="/gnu/store/not-built")
    assert transfer(connection, machine, missing, store, digests) is None
    Path(action.image).write_bytes(bytes(MIB) + random.Random(2).randbytes(3 * MIB))
    assert transfer(connection, machine, action, store, digests).size == 4 * MIB
    image = Path(action.image)
    bases = BaseVolumes(connection, action.pool, digests, ignore)
    bases.provide(image, digests.of(image))
    assert transfer(connection, machine, action, store, digests).size == 0


@pytest.mark.parametrize(
    "event",
    [
        "PhaseFinished transfer",
        "PhaseFinished stop",
        "PhaseFinished define",
        "PhaseFinished start",
        "PhaseFinished ready",
    ],
)
def test_who_lost_its_lock_changes_nothing_any_more(connection, running, tmp_path, event):
    machine = running(2)
    seen = tmp_path / "seen"
    virsh = "virsh --quiet -c qemu:///system"
    look = f"{virsh} dumpxml --inactive {machine.name}; {virsh} domstate {machine.name}"
    lock = f"{virsh} secret-list | awk '/ {machine.name}$/ {{print $1}}'"
    lost = update(
        machine, event, "sh", "-c", f"({look}) > {seen}; {virsh} secret-undefine $({lock})"
    )
    assert lost.returncode == 1
    assert "its lock was lost" in lost.stderr
    assert subprocess.check_output(["sh", "-c", look], text=True) == seen.read_text()
    left = volumes.list_ours(connection, machine.domain.pool)
    known = domains.read_metadata(connection, machine.name).generations
    assert len([volume for volume in left if generation_of(volume.name)]) == len(known)
    if domains.state(connection, machine.name) == "shut off":
        domains.start(connection, machine.name)
    again = update(machine)
    assert again.returncode == 0, again.stderr
