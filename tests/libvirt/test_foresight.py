# SPDX-License-Identifier: GPL-3.0-or-later
"""What deploy would refuse on its way is refused by plan, and before anything is made."""

import json
from concurrent.futures import ThreadPoolExecutor, wait

import libvirt
import msgspec
import pytest
from deploying import changed, with_image

from pyguixvm.cli import declaration
from pyguixvm.cli.app import main
from pyguixvm.commands.rollback import roll_back
from pyguixvm.commands.session import Session
from pyguixvm.errors import RequestRefusedError
from pyguixvm.events import ignore
from pyguixvm.hypervisor import domains
from pyguixvm.hypervisor.machine_lock.lock import held
from pyguixvm.model.declaration import DataDisk, Deployment, Networking
from pyguixvm.plan.plan import Policy

SYSTEM = "qemu:///system"
MIB = 1024**2


@pytest.fixture
def asked(monkeypatch, capfd):
    """Run a verb on a declared machine; return the exit status, and what is printed."""

    def run(verb, machine):
        found = Deployment(schema=1, config="/src/config.scm", machines=(machine,))
        monkeypatch.setattr(declaration, "evaluated", lambda *_, **__: found)
        monkeypatch.setenv("PYGUIXVM_VIRT_TYPE", "qemu")
        status = main(["-c", SYSTEM, verb, "--json", "/src/config.scm"])
        document = json.loads(capfd.readouterr().out)
        (told,) = document["plans"][0]["machines"] if verb == "plan" else document["machines"]
        return status, told

    return run


@pytest.fixture
def bootable(a_machine, pool, tmp_path):
    image = tmp_path / "image.raw"
    image.write_bytes(b"boot")
    return with_image(a_machine(pool=pool.name), image)


def misspelt_network(machine):
    return changed(machine, networking=(Networking("defualt", "52:54:00:0a:0b:0c"),))


def small_root(machine):
    return changed(machine, storage=8 * MIB)


def too_many_cpus(machine):
    return changed(machine, cpu=100_000, maximum_cpu=100_000)


def impossible_title(machine):
    return changed(machine, title="a\x01b")


def impossible_pool(machine):
    return changed(machine, pool="a/b")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (misspelt_network, "network 'defualt' does not exist on qemu:///system; there are: "),
        (small_root, "is smaller than the image"),
        (too_many_cpus, "is to have up to 100000 vCPUs"),
        (impossible_title, "which libvirt cannot store"),
        (impossible_pool, "a directory cannot have that name"),
    ],
)
def test_a_machine_that_cannot_be(connection, bootable, asked, wrong, words):
    machine = wrong(bootable)
    status, told = asked("plan", machine)
    assert (status, told["actions"]) == (1, [])
    assert words in told["refusal"]
    status, told = asked("deploy", machine)
    assert status != 0
    assert words in told["error"]["message"]
    assert not domains.exists(connection, machine.name)


def test_a_disk_that_would_shrink(halting, asked):
    smaller = DataDisk(name="db", size=64 * MIB, file_system="ext4", target=None)
    status, told = asked("plan", changed(halting, disks=(smaller,)))
    assert status == 1
    assert "never shrinks" in told["refusal"]


def test_a_network_counts_as_it_is_now(connection, halting, asked):
    name = f"{halting.name}-gone"
    network = connection.handle.networkDefineXML(f"<network><name>{name}</name></network>")
    interface = msgspec.structs.replace(
        halting.domain.networking[0], network=f"{halting.name}-gone"
    )
    network.create()
    try:
        machine = changed(halting, networking=(interface,))
        status, told = asked("plan", machine)
        assert (status, told["refusal"]) == (0, None)
    finally:
        network.destroy()
        network.undefine()
    status, told = asked("plan", machine)
    assert status == 1
    assert f"network '{name}' does not exist" in told["refusal"]


def test_a_pool_that_is_made_is_told(connection, bootable, asked):
    name = f"{bootable.name}-new"
    status, told = asked("plan", changed(bootable, pool=name))
    assert (status, told["refusal"], told["new-pool"]) == (0, None, name)
    with pytest.raises(libvirt.libvirtError):
        connection.handle.storagePoolLookupByName(name)
    assert asked("plan", bootable)[1]["new-pool"] is None


@pytest.fixture
def other_pool(connection, tmp_path):
    """Yield a function that defines a pool of some XML, which goes at the end; it is inactive."""
    handles = []

    def define(name, kind, source="", path=tmp_path / "pool"):
        handles.append(
            connection.handle.storagePoolDefineXML(
                f"<pool type='{kind}'><name>{name}</name>{source}"
                f"<target><path>{path}</path></target></pool>"
            )
        )
        return handles[-1]

    yield define
    for handle in handles:
        assert not handle.isActive()
        handle.undefine()


@pytest.mark.parametrize(
    ("kind", "source", "words"),
    [
        ("logical", "<source><name>vg</name></source>", "is of type 'logical'"),
        ("disk", "<source><device path='/dev/null'/></source>", "is of type 'disk'"),
        ("dir", "", "is not there"),
    ],
)
def test_a_pool_that_is_of_no_use(bootable, asked, other_pool, kind, source, words):
    """One that is for something else, or lies on what is not mounted."""
    name = f"{bootable.name}-{kind}"
    pool = other_pool(name, kind, source)
    machine = changed(bootable, pool=name)
    status, told = asked("plan", machine)
    assert status == 1
    assert f"pool '{name}'" in told["refusal"]
    assert words in told["refusal"]
    status, deployed = asked("deploy", machine)
    assert status == 1
    assert deployed["error"]["message"] == told["refusal"]
    assert not pool.autostart()


def test_a_pool_that_is_stopped_is_planned_with(connection, bootable, pool, asked):
    handle = connection.handle.storagePoolLookupByName(pool.name)
    handle.destroy()
    status, told = asked("plan", bootable)
    handle.create()
    assert (status, told["refusal"], told["new-pool"]) == (0, None, None)


def test_a_rollback_that_is_refused_anyway_waits_for_nobody(connection, deployed):
    name = deployed().name
    here = Session(SYSTEM, (), {}, ignore, ignore)
    with ThreadPoolExecutor(1) as aside:
        with held(connection, [name], ignore, "deploy"):
            asked = aside.submit(roll_back, here, name, 99, Policy())
            done, _ = wait([asked], timeout=20)
        assert done, "it waited for the lock"
    with pytest.raises(RequestRefusedError, match="has no generation 99"):
        asked.result()
