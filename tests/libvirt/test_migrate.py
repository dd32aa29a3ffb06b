# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines move between two libvirtds, whole, and one copy at most can ever be started."""

import os
import random
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import libvirt
import msgspec
import pytest
from boot_sector import halting
from deploying import MIB, deploy, session, with_image
from killing import KILLS, SEED, end, kill_after, moments
from travelling import SYSTEM, session_at, settled

from pyguixvm.apply import migration
from pyguixvm.cli.app import main
from pyguixvm.commands import power, rollback
from pyguixvm.commands.planning import observed
from pyguixvm.commands.session import Session
from pyguixvm.commands.status import applied_statuses
from pyguixvm.errors import RequestRefusedError
from pyguixvm.events import ignore
from pyguixvm.hypervisor import domains, volumes
from pyguixvm.model.declaration import ConsoleReady
from pyguixvm.model.volume_names import generation_volume, is_base
from pyguixvm.plan.plan import Policy


def test_all_of_a_machine_moves_and_comes_back(traveller):
    here, there = traveller.connection, traveller.there
    uuid = here.handle.lookupByName(traveller.name).UUIDString()
    assert traveller.move(there) == f"came from {here.uri}"
    traveller.require_whole(there)
    assert there.handle.lookupByName(traveller.name).UUIDString() == uuid
    assert traveller.can_start(there)
    assert traveller.move(there) == f"is on {there.uri} already"
    away = Session(there.uri, (), {"PYGUIXVM_VIRT_TYPE": "qemu"}, ignore, ignore)
    outcome = rollback.roll_back(away, traveller.name, 1, Policy(force=True))
    assert outcome.error is None, outcome.error
    domains.destroy(there, traveller.name)
    assert traveller.move(here) == f"came from {there.uri}"
    traveller.require_whole(here)
    assert domains.read_metadata(here, traveller.name).current == 1
    assert traveller.can_start(here)


# What makes a difference to who has the machine; the kills at other requests are a sample.
DECISIVE = {"defineXMLFlags", "undefineFlags", "setMetadata"}


def test_whoever_is_killed_leaves_one_copy_and_the_next_run_finishes(traveller):
    source, target = traveller.connection, traveller.there
    # At first, bases are sent, too; and what is moved there is what is moved each time.
    for _ in range(2):
        whole = traveller.once(source, target)
        assert whole.returncode == 0, whole.stderr
        source, target = target, source
    requests = whole.stdout.split()[1:]
    decisive = [number for number, name in enumerate(requests, 1) if name in DECISIVE]
    assert len(decisive) >= 4, requests
    others = sorted(set(range(1, len(requests) + 1)) - set(decisive))
    sample = random.Random(SEED).sample(others, min(KILLS, len(others)))
    for number in sorted({*decisive, *sample}):
        killed = traveller.once(source, target, number)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        where = traveller.at()
        # Libvirt itself starts it at one place at most: where it was, as long as it is there.
        assert where, (number, requests)
        if len(where) == 2:
            assert not traveller.can_start(target), (number, requests)
        again = traveller.once(source, target)
        assert again.returncode == 0, (number, requests, again.stderr)
        traveller.require_whole(target)
        source, target = target, source


def test_what_is_started_meanwhile_stays_where_it_is(traveller):
    here, there = traveller.connection, traveller.there
    assert traveller.once(here, there, "defineXMLFlags").returncode == -signal.SIGKILL
    assert len(traveller.at()) == 2
    for wrong in (
        lambda: power.start(session_at(there), (traveller.name,)),
        lambda: rollback.roll_back(session_at(there), traveller.name, 1, Policy()),
    ):
        with pytest.raises(RequestRefusedError, match="is on its way here from"):
            wrong()
    (seen,) = applied_statuses(session_at(there), (traveller.name,))
    assert "on its way here from" in seen.detail
    # By anybody, and off again: what it wrote is in none of what was sent.
    disk = volumes.refreshed(here, traveller.pool, traveller.volume)
    before = disk.modified
    assert traveller.can_start(here)
    Path(traveller.outside(here, disk.path)).touch()
    assert volumes.refreshed(here, traveller.pool, traveller.volume).modified != before
    with pytest.raises(RequestRefusedError, match="was started on"):
        traveller.move(there)
    traveller.require_whole(here)
    assert traveller.can_start(here)
    assert traveller.move(there) == f"came from {here.uri}"
    traveller.require_whole(there)


def test_whoever_goes_on_may_call_the_source_otherwise(traveller, tmp_path):
    here, there = traveller.connection, traveller.there
    traveller.move(there)
    (socket,) = parse_qs(urlsplit(there.uri).query)["socket"]
    link = tmp_path / "link"
    link.symlink_to(Path(socket).parent)
    of_another = SimpleNamespace(uri=f"qemu+unix:///system?socket={link}/libvirt-sock")
    killed = traveller.once(of_another, here, "defineXMLFlags")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    link.unlink()
    assert traveller.move(here) == f"came from {of_another.uri}"
    traveller.require_whole(here)


def test_a_machine_that_is_declared_elsewhere_is_found_and_not_made_again(traveller):
    here, there = traveller.connection, traveller.there
    # As of a file with other machines, of which this one was asked for.
    declared = msgspec.structs.replace(traveller.machine, hypervisor=there.uri)
    for uris in ((SYSTEM, there.uri), (None, there.uri)):
        with observed(session(traveller.directory), [declared], hypervisors=uris) as planned:
            (sight,) = planned
            (plan,) = sight.plan.machines
        assert plan.actions == ()
        assert f"is on {here.uri}, and is declared for {there.uri}" in plan.refusal
        assert f"pyguixvm -c {SYSTEM} migrate CONFIG {traveller.name}" in plan.hint
    traveller.move(there)
    with observed(session(traveller.directory), [declared], hypervisors=uris) as planned:
        (sight,) = planned
        (plan,) = sight.plan.machines
    assert plan.refusal is None


def test_a_host_is_left_by_all_that_can_go(traveller, a_machine, pool, tmp_path, capfd):
    here, there = traveller.connection, traveller.there
    # From where nobody else's machines are.
    traveller.move(there)
    image = tmp_path / "other.raw"
    image.write_bytes(halting())
    stays = with_image(a_machine(ready=(ConsoleReady("up"),), pool=pool.name), image)
    assert deploy(there, stays) is None
    domains.destroy(there, stays.name)
    handle = there.handle.lookupByName(stays.name)
    snapshot = handle.snapshotCreateXML("<domainsnapshot><name>before</name></domainsnapshot>")
    try:
        assert main(["evacuate", there.uri, "--to", SYSTEM]) == 1
        said = capfd.readouterr()
        assert f"{traveller.name}: came from {there.uri}" in said.out
        assert f"'{stays.name}' has 1 snapshot: before" in said.err
        assert f"2 machines: 1 moved, 1 stays ({stays.name})" in said.err
        assert domains.exists(there, stays.name)
        traveller.require_whole(here)
    finally:
        snapshot.delete()
        handle.undefine()


def test_who_only_looks_moves_nothing(traveller, capfd):
    here, there = traveller.connection, traveller.there
    traveller.move(there)
    for source, target in ((f"{there.uri}&ro", SYSTEM), (there.uri, f"{SYSTEM}?ro")):
        assert main(["evacuate", source, "--to", target]) in {1, 5}
        assert "read only access" in capfd.readouterr().err
        traveller.require_whole(there)
    traveller.move(here)


@pytest.fixture
def fleet(traveller, a_machine, pool, tmp_path):
    """Three machines beside the traveller, at the other end, that stand on one image."""
    traveller.move(traveller.there)
    image = tmp_path / "fleet.raw"
    image.write_bytes(halting())
    names = [traveller.name]
    for _ in range(3):
        each = with_image(a_machine(ready=(ConsoleReady("up"),), pool=pool.name), image)
        assert deploy(traveller.there, each) is None
        domains.destroy(traveller.there, each.name)
        names.append(each.name)
    yield names
    for where in (traveller.connection, traveller.there):
        for name in names[1:]:
            with suppress(libvirt.libvirtError):
                where.handle.lookupByName(name).undefine()


class Counted:
    """How many are at once where `meet` is called by PARTIES of them, who wait for each other."""

    def __init__(self, parties):
        self.most = self.now = 0
        self.barrier = threading.Barrier(parties)
        self.lock = threading.Lock()

    def meet(self, *arguments, real=migration.send, **named):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        self.barrier.wait(60)
        real(*arguments, **named)
        with self.lock:
            self.now -= 1


@pytest.mark.parametrize("jobs", [1, 2])
def test_machines_leave_side_by_side(traveller, fleet, monkeypatch, capfd, jobs):
    counted = Counted(jobs)
    monkeypatch.setattr(migration, "send", counted.meet)
    there = traveller.there
    assert main(["evacuate", there.uri, "--to", SYSTEM, "--jobs", str(jobs)]) == 0
    assert counted.most == jobs
    said = capfd.readouterr()
    assert said.out.splitlines() == [f"{name}: came from {there.uri}" for name in sorted(fleet)]
    assert "4 machines: 4 moved" in said.err
    # The image that three of them stand on was fetched and sent once.
    sent = [line for line in said.err.splitlines() if "base volume" in line]
    assert len(sent) <= 1, sent
    assert all(traveller.connection.handle.lookupByName(name) for name in fleet)
    traveller.require_whole(traveller.connection)


def test_who_interrupts_machines_that_leave_finds_each_at_one_place(traveller, fleet, monkeypatch):
    def asked(*_, **__):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.5)

    here, there = traveller.connection, traveller.there
    with monkeypatch.context() as patched:
        patched.setattr(migration, "require_virtualization", asked)
        assert main(["evacuate", there.uri, "--to", SYSTEM]) == 130
    assert not any(domains.exists(here, name) for name in fleet)
    assert main(["evacuate", there.uri, "--to", SYSTEM]) == 0
    traveller.require_whole(here)


# --- guests that run ---------------------------------------------------------


def test_a_guest_that_runs_goes_on_elsewhere(traveller, line):
    here, there = traveller.connection, traveller.there
    domains.start(here, traveller.name)
    peer = "qemu+tcp://10.213.0.2/system"
    # By way of us, back, and from the one libvirtd to the other.
    for target, uri in ((there, there.uri), (here, here.uri), (there, peer)):
        source = there if target is here else here
        said = traveller.move(target, uri=uri, by=line.there if target is there else line.here)
        assert said == f"came from {source.uri}"
        assert domains.state(target, traveller.name) == "running"
        traveller.require_whole(target)
        name = generation_volume(traveller.name, 2)
        root = volumes.refreshed(target, traveller.pool, name)
        assert root.allocation < 4 * MIB
        assert is_base(volumes.base(target, traveller.pool, name))
    domains.destroy(there, traveller.name)
    assert traveller.can_start(there)


def test_whoever_is_killed_while_a_guest_moves_leaves_one_that_runs(traveller, line):
    source, target = traveller.connection, traveller.there
    # There, the one libvirtd has the other do it; back, it hangs on who is killed.
    uris = {True: "qemu+tcp://10.213.0.2/system", False: source.uri}
    domains.start(source, traveller.name)
    since = time.monotonic()
    end(traveller.begin(source, uris[True], line.there))
    seconds = time.monotonic() - since
    source, target = target, source
    for moment in moments(seconds):
        away = target is traveller.there
        kill_after(traveller.begin(source, uris[away], line.there if away else line.here), moment)
        settled(traveller)
        running = [w for w in traveller.at() if domains.state(w, traveller.name) == "running"]
        assert len(running) == 1
        traveller.move(target, uri=uris[away], by=line.there if away else line.here)
        traveller.require_whole(target)
        assert domains.state(target, traveller.name) == "running"
        source, target = target, source
