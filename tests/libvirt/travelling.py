# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine to be moved between two libvirtds, and what is to be so wherever that ends."""

import os
import random
import subprocess
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import libvirt
import pytest
from another import another_libvirtd
from boot_sector import halting
from deploying import MIB, deploy, renewed, session, with_image
from killing import begun
from program import ran
from waiting import eventually

from pyguixvm.commands import migrate
from pyguixvm.commands.session import Session
from pyguixvm.events import ignore
from pyguixvm.hypervisor import data_records, domains, download, volumes
from pyguixvm.hypervisor.connection import connect
from pyguixvm.hypervisor.migration import Line
from pyguixvm.model.declaration import ConsoleReady, DataDisk
from pyguixvm.model.volume_names import data_volume, is_marker

SYSTEM = "qemu:///system"
ONCE = Path(__file__).with_name("migrate_once.py")
DATA = random.Random(1).randbytes(3 * MIB + 17)
DISK = DataDisk(name="db", size=128 * MIB, file_system="ext4", target=None)


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

    def move(self, to, *, uri=None, emit=ignore, **line):
        here = session(self.directory)
        leaving = self.connection.uri if to is self.there else self.there.uri
        here = Session(leaving, (), here.environment, emit, ignore)
        (done,) = migrate.migrate(here, (self.name,), to=uri or to.uri, line=Line(**line))
        return done.detail

    def once(self, source, target, request=0):
        """Move it by a process of its own, killed after REQUEST; return that."""
        return ran(ONCE, self.name, source.uri, target.uri, request, self.directory / "state")

    def begin(self, source, uri, by):
        """Begin to move it from SOURCE to the other's URI by a process of its own."""
        state = self.directory / "state"
        return begun(ONCE, self.name, source.uri, uri, 0, state, by)

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
    machine = a_machine(ready=(ConsoleReady("up"),), pool=pool.name, disks=(DISK,))
    yield from _deployed(connection, there, machine, tmp_path)


@pytest.fixture
def with_variables(connection, there, a_machine, pool, tmp_path):
    """One whose firmware keeps variables, and finds nothing to start."""
    machine = a_machine(ready=(), firmware="uefi", pool=pool.name, disks=(DISK,))
    yield from _deployed(connection, there, machine, tmp_path)


def _deployed(connection, there, machine, tmp_path):
    image = tmp_path / "image.raw"
    image.write_bytes(halting())
    machine = with_image(machine, image)
    assert deploy(connection, machine) is None
    machine = renewed(machine, tmp_path)
    assert deploy(connection, machine, force=True, stop_timeout=0) is None
    domains.destroy(connection, machine.name)
    made = Traveller(connection, there, machine, tmp_path)
    made.write_data()
    yield made
    for where in (connection, there):
        with suppress(libvirt.libvirtError):
            where.handle.lookupByName(machine.name).destroy()
        with suppress(libvirt.libvirtError):
            found = where.handle.lookupByName(machine.name)
            found.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)


class Joined(NamedTuple):
    """By which URIs each of two hosts is reached by the other, and the first one's device."""

    here: str
    there: str
    name: str


@pytest.fixture(scope="module")
def line(another):
    """Join the networks of the two hosts."""
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
    yield Joined("tcp://10.213.0.1", "tcp://10.213.0.2", name)
    subprocess.run(("ip", "link", "delete", name), check=True)


def session_at(where):
    return Session(where.uri, (), {"PYGUIXVM_VIRT_TYPE": "qemu"}, ignore, ignore)


def settled(traveller):
    """Wait until libvirt has done what somebody asked it for who was killed."""
    eventually(lambda: not any(busy(where, traveller.name) for where in traveller.at()))


def busy(where, name):
    with suppress(libvirt.libvirtError):
        return where.handle.lookupByName(name).jobInfo()[0] != libvirt.VIR_DOMAIN_JOB_NONE
    return False
