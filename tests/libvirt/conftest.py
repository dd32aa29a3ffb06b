# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests against a real libvirtd: to be run in the test bed, by tests/testbed/enter.

What they make is named after PREFIX and removed; nothing else is touched.
"""

import itertools
import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import boot_sector
import libvirt
import msgspec
import pytest
from deploying import deploy, some_metadata, with_image
from editions import UPDATE, declared, run_script
from far_host import (  # noqa: F401 -- fixtures
    host,
    host_without_shell,
    impatient,
    sent,
    tools,
)
from hostile import HostileAgent
from travelling import (  # noqa: F401 -- fixtures
    another,
    line,
    there,
    traveller,
    with_variables,
)

from pyguixvm.events import ignore
from pyguixvm.hypervisor import connection as connections
from pyguixvm.hypervisor import data_records, domains, pools, upload
from pyguixvm.model.applied import Generation, Metadata
from pyguixvm.model.declaration import (
    AddressReady,
    ConsoleReady,
    DataDisk,
    GuestAgentReady,
    LibvirtDomain,
    Location,
    Networking,
    VirtualMachine,
)
from pyguixvm.model.image import LocalImage
from pyguixvm.model.volume_names import generation_volume
from pyguixvm.xml.domain import DomainDefinition, domain_xml
from pyguixvm.xml.text import element, parse, render

MIB = 1024**2
PREFIX = f"test{os.getpid()}"
SYSTEM = "qemu:///system"
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
def pool(connection, request):
    """A pool that `ensure_pool` makes; removed with its directory."""
    name = f"{PREFIX}-{next(_NUMBERS)}"
    pools.ensure_pool(connection, name)
    made = pools.find_pool(connection, name)
    yield made
    # A connection of its own: a test may have restarted libvirtd.
    with connections.connect(SYSTEM) as last:
        handle = last.handle.storagePoolLookupByName(name)
        handle.destroy()
        handle.undefine()
        for record in data_records.read(last):
            if record.pool == name:
                data_records.remove(last, record.address)
    shutil.rmtree(made.path)


_DEFAULT = (AddressReady(),)
_NUMBERS = itertools.count(1)


@pytest.fixture
def a_machine():
    """Declare a machine with a name of its own and a MAC address that no other test had."""

    def declare(*, ready=_DEFAULT, **fields):
        number = next(_NUMBERS)
        mac = f"52:54:00:{os.getpid() % 256:02x}:{number // 256:02x}:{number % 256:02x}"
        values = {
            "cpu": 1,
            "maximum_cpu": 1,
            "memory": 256 * MIB,
            "maximum_memory": 256 * MIB,
            "storage": 16 * MIB,
            "networking": (Networking(network="default", mac_address=mac),),
            "kernel_arguments": (),
            "autostart": False,
            "pool": "default",
            "firmware": "bios",
            "virtualization": "auto",
        } | fields
        return VirtualMachine(
            name=f"{PREFIX}-{number}",
            location=Location(file="config.scm", line=1, column=0),
            image=LocalImage(path="/image", format="raw", size=1, modified=1),
            domain=LibvirtDomain(**values),
            ready=ready,
            ready_timeout=120,
        )

    return declare


@pytest.fixture
def defined(connection, pool, tmp_path):
    """Define machines on a disk that holds no more than a SECTOR; they go at the end."""
    names = []

    def define(machine, *, change=lambda xml: xml, sector=b"", **fields):
        disk = tmp_path / "disk"
        disk.write_bytes(sector)
        os.truncate(disk, 16 * MIB)
        volume = upload.upload_volume(
            connection, pool.name, f"pyguixvm-{machine.name}.g1.qcow2", disk, ignore
        )
        values = {
            "machine": machine,
            "root": volume.path,
            "backing": (),
            "domain_type": "qemu",
            "metadata": some_metadata(machine),
            "root_format": "raw",
        } | fields
        domains.define(connection, change(domain_xml(DomainDefinition(**values))))
        names.append(machine.name)
        return machine.name

    yield define
    with connections.connect(SYSTEM) as last:
        for name in names:
            with suppress(libvirt.libvirtError):
                last.handle.lookupByName(name).destroy()
            with suppress(libvirt.libvirtError):
                last.handle.lookupByName(name).undefineFlags(
                    libvirt.VIR_DOMAIN_UNDEFINE_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
                )


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


# What a kernel does not have to do or find out before a test can begin.
AT_ONCE = (
    "nokaslr mitigations=off cryptomgr.notests=1 no_timer_check tsc=reliable lpj=4000000 "
    "nowatchdog raid=noautodetect init_on_alloc=0 page_alloc.shuffle=0 8250.nr_uarts=1"
)


@pytest.fixture
def tiny_machine(defined, a_machine, tiny):
    """Define a machine with a guest that DOES some things, and return its declaration."""

    def define(does, *, devices=(), **fields):
        def boot_kernel(xml):
            domain = parse(xml)
            domain.find("devices").extend(devices)
            os_element = domain.find("os")
            for tag, text in (
                ("kernel", str(tiny / "kernel")),
                ("initrd", str(tiny / "initrd")),
                ("cmdline", f"console=ttyS0 quiet panic=0 {AT_ONCE} does={does}"),
            ):
                os_element.append(element(tag, text))
            return render(domain)

        machine = a_machine(**fields)
        defined(machine, change=boot_kernel)
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


@pytest.fixture
def hostile(connection, tiny_machine):
    """A machine that runs, and its guest's agent, which answers what a test wants it to."""
    # QEMU makes the socket, as a user of its own.
    path = Path("/var/lib/libvirt/boot") / f"{PREFIX}-{next(_NUMBERS)}.socket"
    port = element("channel", {"type": "unix"})
    port.append(element("source", {"mode": "bind", "path": str(path)}))
    port.append(element("target", {"type": "virtio", "name": "pyguixvm.test"}))
    machine = tiny_machine("relay", devices=(port,), ready=(GuestAgentReady(),))
    domains.start(connection, machine.name)
    with HostileAgent(path) as agent:
        agent.wait_connected(connection, machine.name)
        yield machine, agent


@pytest.fixture
def foreign(connection):
    """A domain that is none of ours."""
    name = f"{PREFIX}-foreign-{next(_NUMBERS)}"
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


@pytest.fixture
def edition(connection, tiny_machine, pool, tmp_path):
    """Yield a function that declares an edition of a machine whose first one runs."""
    machine = tiny_machine(
        "agent,button,dhcp", ready=(GuestAgentReady(), AddressReady()), pool=pool.name
    )
    image = tmp_path / "image.raw"
    image.touch()
    os.truncate(image, 16 * MIB)
    modified = int(image.stat().st_mtime)
    local = LocalImage(path=str(image), format="raw", size=16 * MIB, modified=modified)
    first = domains.read_metadata(connection, machine.name)
    first = first.having(
        msgspec.structs.replace(
            first.generation, pool=pool.name, volume=f"pyguixvm-{machine.name}.g1.qcow2"
        )
    )
    domains.write_metadata(connection, machine.name, first)
    run_script(UPDATE, msgspec.structs.replace(machine, image=local), "never")
    # From here on it passes for one that was made of an operating-system.
    metadata = domains.read_metadata(connection, machine.name)
    made = msgspec.structs.replace(
        metadata.generation, declaration=declared(machine, "one"), label="one", kernel="linux"
    )
    domains.write_metadata(connection, machine.name, metadata.having(made))
    return lambda name: declared(machine, name)
