# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests against a real libvirtd: to be run in the test bed, by tests/testbed/enter.

What they make is named after PREFIX and removed; nothing else is touched.
"""

import os
import shutil
import subprocess
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import boot_sector
import libvirt
import msgspec
import pytest
from deploying import deploy, with_image
from editions import declared, run_first
from far_host import (  # noqa: F401 -- fixtures
    host,
    host_without_shell,
    impatient,
    sent,
    tools,
)
from hostile import HostileAgent
from machines import (
    MIB,
    NUMBERS,
    PREFIX,
    SYSTEM,
    an_empty_pool,
    booting,
    declare,
    defining,
)
from saved import restored, save, wait_agent
from travelling import (  # noqa: F401 -- fixtures
    another,
    line,
    there,
    traveller,
    with_variables,
)

from pyguixvm.hypervisor import connection as connections
from pyguixvm.hypervisor import domains
from pyguixvm.model.applied import Generation, Metadata
from pyguixvm.model.declaration import (
    AddressReady,
    ConsoleReady,
    DataDisk,
    GuestAgentReady,
)
from pyguixvm.model.volume_names import generation_volume
from pyguixvm.xml.text import element

# The same libvirtd; a socket of unknown origin counts as another machine's.
ELSEWHERE = "qemu+unix:///system?socket=/run/libvirt/libvirt-sock"


def pytest_sessionstart(session):
    if not Path("/run/pyguixvm-bed").exists():
        pytest.exit("these tests run in the test bed: tests/testbed/enter pytest tests/libvirt", 4)


@pytest.fixture
def connection():
    with connections.connect(SYSTEM) as opened:
        yield opened


@pytest.fixture
def elsewhere():
    with connections.connect(ELSEWHERE) as opened:
        yield opened


@pytest.fixture
def pool(connection):
    """A pool that `ensure_pool` makes; removed with its directory."""
    with an_empty_pool(connection) as made:
        yield made


@pytest.fixture
def a_machine():
    """Declare a machine with a name of its own and a MAC address that no other one had."""
    return declare


@pytest.fixture
def defined(connection, pool, tmp_path):
    """Define machines on a disk that holds no more than a SECTOR; they go at the end."""
    with defining(connection, pool, tmp_path) as define:
        yield define


@pytest.fixture
def deployed(connection, defined, a_machine, pool):
    """Define a machine that remembers its root volume, and its UUID if it is to."""

    def define(*, by_uuid=True, deployment=None, protect=False, **fields):
        machine = msgspec.structs.replace(a_machine(pool=pool.name, **fields), protect=protect)
        first = Generation(
            number=1,
            date="2026-01-31T12:00:00+00:00",
            label="first",
            pool=pool.name,
            volume=generation_volume(machine.name, 1),
            image="/image",
            declaration=machine,
        )
        uuid = str(uuid4()) if by_uuid else None
        metadata = Metadata(current=1, generations=(first,), uuid=uuid, deployment=deployment)
        defined(machine, metadata=metadata, uuid=uuid)
        return machine

    return define


@pytest.fixture(scope="session")
def tiny():
    """A directory with kernel and initrd of a guest that boots within seconds."""
    bed = Path(os.environ.get("PYGUIXVM_TESTBED", "/var/lib/pyguixvm-testbed"))
    if (bed / "unavailable").exists():
        pytest.skip((bed / "unavailable").read_text().strip())
    directory = Path("/var/lib/libvirt/boot") / PREFIX
    directory.mkdir(mode=0o755)
    subprocess.run([Path(__file__).parent / "tiny" / "make", directory], check=True)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def tiny_machine(defined, a_machine, tiny):
    """Define a machine with a guest that DOES some things, and return its declaration."""

    def define(does, **fields):
        machine = a_machine(**fields)
        defined(machine, change=booting(tiny, does))
        return machine

    return define


@pytest.fixture
def heeding(defined, a_machine):
    """Define a machine with a guest that heeds its power button, and return its declaration."""

    def define(**fields):
        machine = a_machine(ready=(ConsoleReady("up"),), **fields)
        defined(machine, sector=boot_sector.heeding_button("up\r\n"))
        return machine

    return define


# For no longer than a module: a guest's lease of its address ends after an hour.
@pytest.fixture(scope="module")
def saved(tiny):
    """Save a machine with a guest that DOES some things, as START of it has it run."""
    with TemporaryDirectory(dir=tiny) as own:

        def saved(does, start, *, devices=(), **fields):
            directory = Path(own) / does
            directory.mkdir()
            with (
                connections.connect(SYSTEM) as connection,
                an_empty_pool(connection) as pool,
                defining(connection, pool, directory) as define,
            ):
                machine = declare(pool=pool.name, **fields)
                define(machine, change=booting(tiny, does, devices))
                start(connection, machine, directory)
                return save(connection, machine, pool, directory)

        yield saved


# QEMU makes the socket, as a user of its own.
SOCKET = Path("/var/lib/libvirt/boot") / f"{PREFIX}.socket"


@pytest.fixture(scope="module")
def relaying(saved):
    """A machine whose guest's agent is whoever is at SOCKET, saved."""
    port = element("channel", {"type": "unix"})
    port.append(element("source", {"mode": "bind", "path": str(SOCKET)}))
    port.append(element("target", {"type": "virtio", "name": "pyguixvm.test"}))

    def start(connection, machine, _directory):
        domains.start(connection, machine.name)
        with HostileAgent(SOCKET):
            wait_agent(connection, machine.name)

    return saved("relay", start, devices=(port,), ready=(GuestAgentReady(),))


@pytest.fixture
def hostile(connection, relaying, pool):
    """A machine that runs, and its guest's agent, which answers what a test wants it to."""
    with restored(connection, relaying, pool) as machine, HostileAgent(SOCKET) as agent:
        wait_agent(connection, machine.name)
        yield machine, agent


@pytest.fixture
def foreign(connection):
    """A domain that is none of ours."""
    name = f"{PREFIX}-foreign-{next(NUMBERS)}"
    handle = connection.handle.defineXML(
        f"<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory>"
        "<os><type arch='x86_64' machine='q35'>hvm</type></os></domain>"
    )
    yield name
    handle.undefine()


@pytest.fixture(scope="session")
def run():
    def run(*command):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    return run


@pytest.fixture
def halting(connection, a_machine, pool, tmp_path):
    """A deployed machine that runs, with a data disk; all of it goes at the end."""
    image = tmp_path / "image.raw"
    image.write_bytes(boot_sector.halting())
    declared = a_machine(
        ready=(ConsoleReady("up"),),
        pool=pool.name,
        disks=(DataDisk(name="db", size=128 * MIB, file_system="ext4", target=None),),
    )
    declared = with_image(declared, image)
    deploy(connection, declared)
    yield declared
    # A connection of its own: a test may have restarted libvirtd.
    with connections.connect(SYSTEM) as last:
        if not domains.exists(last, declared.name):
            return
        handle = last.handle.lookupByName(declared.name)
        with suppress(libvirt.libvirtError):
            handle.destroy()
        for snapshot in handle.listAllSnapshots():
            snapshot.delete(libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY)
        for checkpoint in handle.listAllCheckpoints():
            checkpoint.delete(libvirt.VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY)
        handle.undefine()


@pytest.fixture(scope="module")
def first_edition(saved):
    """A machine whose first edition runs, saved."""
    ready = (GuestAgentReady(), AddressReady())
    return saved("agent,button,dhcp", run_first, ready=ready)


@pytest.fixture
def edition(connection, first_edition, pool):
    """Yield a function that declares an edition of a machine whose first one runs."""
    with restored(connection, first_edition, pool) as machine:
        wait_agent(connection, machine.name)
        yield partial(declared, machine)
