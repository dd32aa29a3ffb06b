# SPDX-License-Identifier: GPL-3.0-or-later
"""A new volume on the root that a guest writes to, and the ways back under it.

The guests are tiny; that they switch systems is played.
"""

import os
import signal
import subprocess
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import libvirt
import msgspec
import pytest
from editions import (
    KILLED,
    UUID,
    booted,
    content,
    read,
    return_to,
    run,
    run_script,
    write,
)
from in_place_once import Switching, change_in_place
from killing import begun, end, kill_after, moments
from relay import relayed

from pyguixvm.apply.backing_chain import stacked
from pyguixvm.apply.context import Workshop
from pyguixvm.apply.definition import require_untouched
from pyguixvm.commands.undefine import root_volumes
from pyguixvm.errors import (
    BuildError,
    EvaluationError,
    HalfDoneError,
    HypervisorError,
    RequestRefusedError,
    RolledBackError,
)
from pyguixvm.events import PhaseFinished, PhaseStarted, ignore
from pyguixvm.guix.activation import BootWanted
from pyguixvm.guix.store import Store
from pyguixvm.hypervisor import domains, snapshot, volumes
from pyguixvm.hypervisor.connection import connect
from pyguixvm.hypervisor.guest import agent
from pyguixvm.hypervisor.observe import observe
from pyguixvm.model.volume_names import generation_volume, is_base, is_marker
from pyguixvm.plan.drift import differences

MIB = 1024**2
IN_PLACE = Path(__file__).with_name("in_place_once.py")


def test_what_the_guest_writes_goes_to_a_new_volume_and_the_old_can_be_returned_to(
    connection, edition, tmp_path
):
    machine = edition("two")
    name, pool = machine.name, machine.domain.pool
    write(connection, name, "before")
    old = domains.read_metadata(connection, name).generation
    boot = booted(connection, name)
    hosts = []

    def switch(host):
        hosts.append(host)
        write(connection, name, "after!")

    outcome = change_in_place(connection, machine, ignore, Switching(switch))
    assert (outcome.outcome, outcome.error) == ("updated", None)
    (host,) = hosts
    assert (host.machine, host.system, host.root_uuid) == (name, "/gnu/store/two.drv", UUID)
    assert host.address in outcome.addresses
    # The tiny guest has no sshd: no key is known, and known_hosts would have to do.
    assert host.host_key is None

    metadata = domains.read_metadata(connection, name)
    new = metadata.generation
    assert (new.number, new.label, new.under) == (old.number + 1, "two", (old.volume,))
    assert (new.root_uuid, new.image, metadata.fallback) == (UUID, old.image, None)
    assert domains.disks(connection, name)[0].endswith(new.volume)
    assert differences(machine, observe(connection).domains[name]) == ()
    # Nothing that libvirt calls a snapshot is left.
    assert connection.handle.lookupByName(name).snapshotNum() == 0
    assert booted(connection, name) == boot
    assert content(connection, pool, old.volume, tmp_path) == "before"

    return_to(connection, name, old.number)
    assert read(connection, name) == "before"
    write(connection, name, "again!")
    # The new volume stands on the old one, which so stays as it is.
    assert content(connection, pool, old.volume, tmp_path) == "before"
    assert content(connection, pool, new.volume, tmp_path) == "after!"
    return_to(connection, name, new.number)
    assert read(connection, name) == "after!"
    return_to(connection, name, old.number)
    assert read(connection, name) == "again!"

    metadata = domains.read_metadata(connection, name)
    domains.destroy(connection, name)
    for each, volume in root_volumes(metadata):
        assert volumes.delete(connection, each, volume), volume
    assert volumes.lookup(connection, pool, old.volume) is None


@pytest.mark.parametrize("error", [HalfDoneError, EvaluationError])
def test_a_guest_that_does_not_switch_is_taken_back(connection, edition, error):
    machine = edition("two")
    name = machine.name
    write(connection, name, "before")
    old = domains.read_metadata(connection, name).generation

    def switch(host):
        write(connection, name, "broken")
        raise error("it does not want to")

    outcome = change_in_place(connection, machine, ignore, Switching(switch))
    assert isinstance(outcome.error, RolledBackError)
    assert "it does not want to" in outcome.error.message
    assert read(connection, name) == "before"
    metadata = domains.read_metadata(connection, name)
    assert (metadata.current, metadata.fallback) == (old.number, None)
    assert metadata.find(old.number + 1).failed


def test_a_change_that_was_not_begun_leaves_the_guest_alone(connection, edition):
    machine = edition("two")
    name = machine.name
    boot = booted(connection, name)

    def refuse(_host):
        raise BuildError("it was saved meanwhile")

    outcome = change_in_place(connection, machine, ignore, Switching(refuse))
    assert outcome.error.message == "it was saved meanwhile"
    assert booted(connection, name) == boot
    metadata = domains.read_metadata(connection, name)
    assert (metadata.fallback, metadata.generation.changing) == (None, False)
    # It is what it was, on another volume.
    assert differences(edition("one"), observe(connection).domains[name]) == ()


def test_a_volume_that_the_guest_does_not_get_goes_again(connection, edition, pool):
    machine = edition("two")
    name = machine.name
    before = domains.read_metadata(connection, name)
    handle = connection.handle.lookupByName(name)
    copy = f"<disk type='file'><driver type='raw'/><source file='{pool.path}/copy.raw'/></disk>"

    begun = []

    def begin(event):
        """Copy the disk in the last moment, as somebody else might."""
        if isinstance(event, PhaseFinished) and event.phase == "define" and not begun:
            begun.append(event)
            handle.blockCopy("vda", copy, flags=libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB)

    try:
        outcome = change_in_place(connection, machine, begin, Switching())
    finally:
        handle.blockJobAbort("vda")
    assert isinstance(outcome.error, HypervisorError)
    # But for who tried.
    after = domains.read_metadata(connection, name)
    untold = msgspec.structs.replace(after.generation, deploy=before.generation.deploy)
    assert after.having(untold) == before
    assert differences(edition("one"), observe(connection).domains[name]) == ()
    added = f"pyguixvm-{name}.g{before.current + 1}.qcow2"
    assert volumes.lookup(connection, pool.name, added) is None


def wait_for_request(line):
    """Return when a request is on its way over LINE, and is not answered."""
    before, same = line.traffic(), 0
    while same < 10:
        time.sleep(0.1)
        now = line.traffic()
        same = same + 1 if now == before and now.there else 0
        before = now


def test_a_guest_that_gets_its_volume_after_the_line_was_cut_keeps_it(
    connection, edition, tmp_path
):
    name = edition("two").name
    # An agent would be waited for, and QEMU not be asked before that.
    run(connection, name, "(sleep 1; kill $(pidof qemu-ga)) > /dev/null 2>&1 &")
    while agent.listens(connection.handle.lookupByName(name)):
        time.sleep(0.1)
    qemu = int(Path(f"/run/libvirt/qemu/{name}.pid").read_text())
    socket = tmp_path / "line"
    with ExitStack() as opened:
        line = opened.enter_context(relayed(socket, later=0, rate=0))

        def cut():
            wait_for_request(line)
            line.cut()
            socket.unlink()
            other = opened.enter_context(relayed(socket, later=0, rate=0))
            wait_for_request(other)
            os.kill(qemu, signal.SIGCONT)

        cutting = threading.Thread(target=cut)

        def begin(event):
            if isinstance(event, PhaseStarted) and event.phase == "update":
                os.kill(qemu, signal.SIGSTOP)
                cutting.start()

        # A socket may be the end of a tunnel; this one is not.
        there = replace(opened.enter_context(connect(line.uri)), local=True)
        outcome = change_in_place(there, edition("two"), begin, Switching())
        cutting.join()
    assert isinstance(outcome.error, HypervisorError)
    (disk,) = domains.disks(connection, name)
    assert snapshot.written_to(connection, name) == disk
    generation = domains.read_metadata(connection, name).generation
    assert disk.endswith(generation.volume)
    assert generation.changing


def test_a_root_that_was_merged_into_the_one_below_is_gone_on_from(connection, edition, tmp_path):
    machine = edition("two")
    name, pool = machine.name, machine.domain.pool
    old = domains.read_metadata(connection, name).generation
    assert change_in_place(connection, machine, ignore, Switching()).error is None
    write(connection, name, "after!")
    new = domains.read_metadata(connection, name).generation
    below = volumes.lookup(connection, pool, old.volume).path
    # Somebody means to tidy up.
    command = ["virsh", "-q", "blockcommit", name, "vda", "--base", below, "--active", "--pivot"]
    subprocess.run(command, check=True)
    outcome = change_in_place(connection, edition("three"), ignore, Switching())
    assert f"{new.volume}, was merged into {old.volume}" in outcome.error.message
    assert f"pyguixvm rollback {name} {old.number}" in outcome.error.hint
    with pytest.raises(RequestRefusedError):
        require_untouched(connection, name, domains.read_metadata(connection, name), old.number + 9)
    return_to(connection, name, old.number)
    assert read(connection, name) == "after!"
    assert content(connection, pool, old.volume, tmp_path) == "after!"
    assert differences(edition("one"), observe(connection).domains[name]) == ()


def test_a_root_that_somebody_let_grow_is_not_cut_short(connection, halting, pool):
    domains.destroy(connection, halting.name)
    generation = domains.read_metadata(connection, halting.name).generation
    path = volumes.lookup(connection, pool.name, generation.volume).path
    subprocess.run(["qemu-img", "resize", "-q", path, "32M"], check=True)
    store = Store(lambda: pytest.fail("Guix is not needed"), ignore)
    workshop = Workshop(connection, ignore, {}, store)
    name = generation_volume(halting.name, 2)
    with stacked(halting.name, generation, name, workshop):
        pass
    assert volumes.refreshed(connection, pool.name, name).capacity == 32 * MIB


def test_checkpoints_forbid_a_change_in_place(connection, edition):
    machine = edition("two")
    name = machine.name
    before = domains.read_metadata(connection, name)
    subprocess.run(["virsh", "-q", "checkpoint-create-as", name, "k1"], check=True)
    try:
        outcome = change_in_place(connection, machine, ignore, Switching())
        assert "has a checkpoint, 'k1'" in outcome.error.message
        assert domains.read_metadata(connection, name) == before
    finally:
        subprocess.run(["virsh", "-q", "checkpoint-delete", name, "k1"], check=True)
    assert change_in_place(connection, machine, ignore, Switching()).error is None


@pytest.mark.parametrize("loaded", [True, False])
@pytest.mark.parametrize("allowed", [True, False])
def test_a_guest_that_boots_by_something_else_then_is_restarted_if_it_may_be(
    connection, edition, allowed, loaded
):
    # Be it that its kernel is said to have been loaded: it has no kexec.
    machine = edition("two")
    boot = booted(connection, machine.name)
    events = []
    activation = Switching(lambda _host: BootWanted(loaded))
    outcome = change_in_place(connection, machine, events.append, activation, restart=allowed)
    assert outcome.error is None, outcome.error
    assert (booted(connection, machine.name) != boot) == allowed
    assert ("away for" in outcome.detail) == allowed
    warnings = [getattr(event, "message", "") for event in events]
    assert any("pending until its restart" in text for text in warnings) != allowed


def require_taken_up(connection, pool, machine):
    """Whatever was killed: the guest runs, and the next change has all that it needs."""
    name = machine.name
    assert domains.state(connection, name) == "running"
    current = domains.read_metadata(connection, name).generation
    assert volumes.lookup(connection, pool.name, current.volume) is not None
    run_script(IN_PLACE, machine, "never")
    observed = observe(connection).domains[name]
    assert differences(machine, observed) == ()
    assert observed.metadata.fallback is None
    handle = connection.handle.storagePoolLookupByName(pool.name)
    handle.refresh()
    left = set(handle.listVolumes())
    assert not any(is_marker(volume) for volume in left)
    # Nothing is there that no generation knows.
    known = {volume for _, volume in root_volumes(observed.metadata)}
    assert {volume for volume in left if not is_base(volume)} == known


def test_a_change_that_is_killed_anywhere_is_taken_up_by_the_next(connection, edition, pool):
    number, event = 2, 1
    while True:
        machine = edition(f"edition-{number}")
        killed = run_script(IN_PLACE, machine, event, *KILLED, check=False)
        if killed.returncode == 0:
            break
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        require_taken_up(connection, pool, machine)
        number, event = number + 1, event + 1
    assert event > 8


def test_a_change_that_is_killed_at_any_moment_is_taken_up_by_the_next(connection, edition, pool):
    def start(machine):
        document = msgspec.json.encode(machine).decode()
        return begun(IN_PLACE, document, "never")

    since = time.monotonic()
    end(start(edition("measured")))
    for number, moment in enumerate(moments(time.monotonic() - since)):
        machine = edition(f"edition-{number}")
        kill_after(start(machine), moment)
        require_taken_up(connection, pool, machine)
