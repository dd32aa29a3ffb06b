# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines move between two libvirtds, whole, and one copy at most can ever be started."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import libvirt
import msgspec
import pytest
from another import another_libvirtd
from boot_sector import halting
from deploying import MIB, deploy, renewed, session, with_image
from killing import KILLS, SEED, begun, end, kill_after, moments

from pyguixvm.cli.app import main
from pyguixvm.commands import migrate, power, rollback
from pyguixvm.commands.planning import observed
from pyguixvm.commands.session import Session
from pyguixvm.commands.status import applied_statuses
from pyguixvm.errors import RequestRefusedError
from pyguixvm.events import ignore
from pyguixvm.hypervisor import data_records, domains, download, volumes
from pyguixvm.hypervisor.connection import connect
from pyguixvm.model.declaration import ConsoleReady, DataDisk
from pyguixvm.model.volume_names import data_volume, generation_volume, is_base, is_marker
from pyguixvm.plan.plan import Policy

SYSTEM = "qemu:///system"
ONCE = Path(__file__).with_name("migrate_once.py")
DATA = random.Random(1).randbytes(3 * MIB + 17)


@pytest.fixture(scope="module")
def another(tmp_path_factory):
    settings = 'listen_tcp = 1\nlisten_tls = 0\nauth_tcp = "none"\n'
    with another_libvirtd(
        tmp_path_factory.mktemp("another"), "--listen", settings=settings
    ) as running:
        yield running


@pytest.fixture
def there(another, pool):
    """A connection to the other libvirtd, where the pool's machines go at the end."""
    with connect(another.uri) as opened:
        yield opened
        with suppress(libvirt.libvirtError):
            found = opened.handle.storagePoolLookupByName(pool.name)
            for volume in found.listAllVolumes():
                volume.delete(0)
            found.destroy()
            found.undefine()


class Traveller:
    """A machine with two generations, and data that nobody else has."""

    def __init__(self, connection, there, machine, directory):
        self.connection, self.there = connection, there
        self.machine, self.directory = machine, directory
        self.volume = data_volume(machine.name, "db")
        self.pool = machine.domain.pool

    @property
    def name(self):
        return self.machine.name

    def write_data(self):
        raw = self.directory / "data.raw"
        raw.write_bytes(DATA)
        disk = volumes.refreshed(self.connection, self.pool, self.volume)
        os.truncate(raw, disk.capacity)
        subprocess.run(["qemu-img", "convert", "-nO", "qcow2", raw, disk.path], check=True)

    def move(self, to, **fields):
        here = session(self.directory)
        uri = self.connection.uri if to is self.there else self.there.uri
        here = Session(uri, (), here.environment, ignore, ignore)
        (done,) = migrate.migrate(here, (self.name,), to=fields.pop("uri", to.uri), **fields)
        return done.detail

    def once(self, source, target, request=0):
        """Move it by a process of its own, killed after REQUEST; return that."""
        command = [
            sys.executable, ONCE, self.name, source.uri, target.uri, str(request),
            self.directory / "state",
        ]  # fmt: skip
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    def begin(self, source, uri, by):
        """Begin to move it from SOURCE to the other's URI by a process of its own."""
        state = self.directory / "state"
        return begun([sys.executable, ONCE, self.name, source.uri, uri, "0", state, by])

    def at(self):
        """Return the connections to where it is defined."""
        both = (self.connection, self.there)
        return [each for each in both if domains.exists(each, self.name)]

    def require_whole(self, where):
        """What it had is at WHERE, and nothing of it anywhere else."""
        assert self.at() == [where]
        (other,) = {self.connection, self.there} - {where}
        assert self.volumes_of(other) == set()
        assert not [r for r in data_records.read(other) if r.volume == self.volume]
        (record,) = (r for r in data_records.read(where) if r.volume == self.volume)
        assert not data_records.compared(where, record).is_another
        assert self.data_of(where) == DATA
        assert not any(map(is_marker, volumes.names(where, self.pool)))
        assert domains.read_metadata(where, self.name).arrival is None

    def outside(self, where, path):
        """Return the file name of PATH at WHERE as it is seen from here."""
        if where is self.connection:
            return path
        (socket,) = parse_qs(urlsplit(where.uri).query)["socket"]
        lib = Path(socket).parents[1] / "lib"
        return lib / PurePosixPath(path).relative_to("/var/lib/libvirt")

    def volumes_of(self, where):
        found = volumes.names(where, self.pool) or ()
        return {name for name in found if f"-{self.name}." in name}

    def data_of(self, where):
        found = volumes.refreshed(where, self.pool, self.volume)
        file = self.directory / "seen.qcow2"
        raw = self.directory / "seen.raw"
        file.unlink(missing_ok=True)
        download.save(where, found, file)
        subprocess.run(["qemu-img", "convert", "-UO", "raw", file, raw], check=True)
        with raw.open("rb") as opened:
            return opened.read(len(DATA))

    def can_start(self, where):
        """Whether libvirt itself starts it at WHERE; it is off afterwards."""
        try:
            handle = where.handle.lookupByName(self.name)
            handle.create()
        except libvirt.libvirtError:
            return False
        handle.destroy()
        return True


@pytest.fixture
def traveller(connection, there, a_machine, pool, tmp_path):
    image = tmp_path / "image.raw"
    image.write_bytes(halting())
    disk = DataDisk(name="db", size=128 * MIB, file_system="ext4", target=None)
    machine = a_machine(ready=(ConsoleReady("up"),), pool=pool.name, disks=(disk,))
    machine = with_image(machine, image)
    assert deploy(connection, machine) is None
    machine = renewed(machine, tmp_path)
    assert deploy(connection, machine, force=True, stop_timeout=1) is None
    domains.destroy(connection, machine.name)
    made = Traveller(connection, there, machine, tmp_path)
    made.write_data()
    yield made
    for where in (connection, there):
        with suppress(libvirt.libvirtError):
            where.handle.lookupByName(machine.name).destroy()
        with suppress(libvirt.libvirtError):
            where.handle.lookupByName(machine.name).undefine()


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
        assert f"pyguixvm migrate CONFIG {traveller.name}" in plan.hint
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
        assert f"2 machines: 1 moved, 1 stay ({stays.name})" in said.err
        assert domains.exists(there, stays.name)
        traveller.require_whole(here)
    finally:
        snapshot.delete()
        handle.undefine()


# --- guests that run ---------------------------------------------------------


@pytest.fixture(scope="module")
def line(another):
    """Join the networks of the two hosts; return by which URI each is reached."""
    process = str(another.process.pid)
    name = f"pyx{os.getpid()}"
    inside = ("nsenter", "--target", process, "--net", "--")
    for command in (
        ("ip", "link", "add", name, "type", "veth", "peer", "name", "pyx", "netns", process),
        ("ip", "address", "add", "10.213.0.1/30", "dev", name),
        ("ip", "link", "set", name, "up"),
        (*inside, "ip", "address", "add", "10.213.0.2/30", "dev", "pyx"),
        (*inside, "ip", "link", "set", "pyx", "up"),
    ):
        subprocess.run(command, check=True)
    yield "tcp://10.213.0.1", "tcp://10.213.0.2"
    subprocess.run(("ip", "link", "delete", name), check=True)


def test_a_guest_that_runs_goes_on_elsewhere(traveller, line):
    here, there = traveller.connection, traveller.there
    domains.start(here, traveller.name)
    peer = "qemu+tcp://10.213.0.2/system"
    # By way of us, back, and from the one libvirtd to the other.
    for target, uri in ((there, there.uri), (here, here.uri), (there, peer)):
        source = there if target is here else here
        said = traveller.move(target, uri=uri, by=line[target is there])
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
    end(traveller.begin(source, uris[True], line[True]))
    seconds = time.monotonic() - since
    source, target = target, source
    for moment in moments(seconds):
        away = target is traveller.there
        kill_after(traveller.begin(source, uris[away], line[away]), moment)
        settled(traveller)
        running = [w for w in traveller.at() if domains.state(w, traveller.name) == "running"]
        assert len(running) == 1
        traveller.move(target, uri=uris[away], by=line[away])
        traveller.require_whole(target)
        assert domains.state(target, traveller.name) == "running"
        source, target = target, source


def settled(traveller):
    """Wait until libvirt has done what somebody asked it for who was killed."""
    deadline = time.monotonic() + 60
    while any(busy(where, traveller.name) for where in traveller.at()):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def busy(where, name):
    with suppress(libvirt.libvirtError):
        return where.handle.lookupByName(name).jobInfo()[0] != libvirt.VIR_DOMAIN_JOB_NONE
    return False


def session_at(where):
    return Session(where.uri, (), {"PYGUIXVM_VIRT_TYPE": "qemu"}, ignore, ignore)
