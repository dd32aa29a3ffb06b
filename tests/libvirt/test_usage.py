# SPDX-License-Identifier: GPL-3.0-or-later
"""No volume is deleted that anything else uses."""

import dataclasses
import subprocess
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import libvirt
import msgspec
import pytest

from pyguixvm.commands import garbage, undefine
from pyguixvm.commands.session import Session
from pyguixvm.events import ignore
from pyguixvm.hypervisor import domains, pools, volumes
from pyguixvm.hypervisor.observe import observe
from pyguixvm.hypervisor.usage import observe_usage
from pyguixvm.model.declaration import DataDisk
from pyguixvm.model.volume_names import data_volume, generation_volume
from pyguixvm.plan.planner import plan
from pyguixvm.xml.volume import VolumeDefinition

MIB = 1024**2
HERE = Session("qemu:///system", (), {}, ignore, lambda _: None)


def rescue(connection, name, source):
    return connection.handle.defineXML(
        f"<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory>"
        "<os><type arch='x86_64' machine='q35'>hvm</type></os><devices>"
        f"{source}</devices></domain>"
    )


def overlay(file, below):
    subprocess.run(
        ["qemu-img", "create", "-qf", "qcow2", "-b", below, "-F", "raw", file], check=True
    )
    return file


def by_file(file, kind="raw"):
    return (
        f"<disk type='file'><driver name='qemu' type='{kind}'/><source file='{file}'/>"
        "<target dev='vda' bus='virtio'/></disk>"
    )


@pytest.fixture
def users(connection, pool, tmp_path):
    """Have somebody else use a volume in one of many ways; that goes at the end."""
    made = []

    def use(how, volume):
        name = f"{volume.name}-rescue"
        if how == "file":
            made.append(rescue(connection, name, by_file(volume.path)))
        elif how == "volume":
            source = f"<source pool='{volume.pool}' volume='{volume.name}'/>"
            disk = f"<disk type='volume'>{source}<target dev='vda' bus='virtio'/></disk>"
            made.append(rescue(connection, name, disk))
        elif how == "running":
            xml = rescue(connection, name, by_file(volume.path))
            text = xml.XMLDesc(0)
            xml.undefine()
            made.append(connection.handle.createXML(text, libvirt.VIR_DOMAIN_START_PAUSED))
        elif how == "other name":
            link = tmp_path / "images"
            link.symlink_to(Path(volume.path).parent)
            made.append(rescue(connection, name, by_file(link / volume.name)))
        elif how == "overlay in a pool":
            file = overlay(Path(volume.path).with_name("overlay.qcow2"), volume.path)
            made.append(rescue(connection, name, by_file(file, "qcow2")))
        elif how == "overlay elsewhere":
            file = overlay(tmp_path / "upper", overlay(tmp_path / "overlay", volume.path))
            made.append(rescue(connection, name, by_file(file, "qcow2")))
        else:
            overlay(Path(volume.path).with_name("experiment.qcow2"), volume.path)
            return f"volume 'experiment.qcow2' of pool '{volume.pool}' stands on it"
        return f"domain '{name}' uses it"

    yield use
    for domain in made:
        if domain.isActive():
            domain.destroy()
        else:
            domain.undefine()


WAYS = (
    "file", "volume", "running", "other name", "overlay in a pool", "overlay elsewhere",
    "overlay alone",
)  # fmt: skip


@pytest.mark.parametrize("how", WAYS)
def test_undefine_leaves_what_something_else_uses(connection, deployed, users, pool, how):
    machine = deployed()
    volume = volumes.lookup(connection, pool.name, generation_volume(machine.name, 1))
    why = users(how, volume)
    agreed = undefine.removals(HERE, [machine.name], keep_volumes=False)
    assert [str(kept) for kept in agreed[0].kept] == [f"{volume.name} is kept, since {why}"]
    (done,) = undefine.undefine(HERE, agreed)
    assert done.detail == f"removed; {volume.name} is kept, since {why}"
    assert not domains.exists(connection, machine.name)
    assert Path(volume.path).exists()


@pytest.mark.parametrize("how", WAYS)
def test_gc_leaves_what_something_else_uses(connection, deployed, users, pool, how):
    machine = deployed()
    metadata = domains.read_metadata(connection, machine.name)
    old, current, previous = (
        msgspec.structs.replace(
            metadata.generation, number=number, volume=generation_volume(machine.name, number)
        )
        for number in (1, 9, 8)
    )
    later = msgspec.structs.replace(metadata, current=9, generations=(old, previous, current))
    domains.write_metadata(connection, machine.name, later)
    # Else it is its own domain that uses it.
    xml = domains.inactive_xml(connection, machine.name)
    domains.define(connection, xml.replace(f"/{old.volume}'", f"/{current.volume}'"))
    volume = volumes.lookup(connection, pool.name, old.volume)
    why = users(how, volume)
    found = garbage.unneeded(HERE, keep=0, older_than=timedelta(0))
    assert volume.name not in {each.name for each in found.volumes}
    assert (machine.name, 1) not in found.generations
    assert f"{volume.name} is kept, since {why}" in map(str, found.kept)


def test_data_is_what_the_machine_remembers_not_what_is_called_so(
    connection, deployed, pool, tmp_path
):
    disk = DataDisk(name="db", size=MIB, file_system="ext4", target=None)
    machine = deployed(disks=(disk,))
    for name in ("db", "db-clone", "other"):
        volumes.create(
            connection,
            pool.name,
            VolumeDefinition(name=data_volume(machine.name, name), capacity=MIB),
        )
    for target, name in (("vdb", "db"), ("vdc", "other")):
        path = volumes.lookup(connection, pool.name, data_volume(machine.name, name)).path
        attach = (
            "virsh",
            "-qc",
            "qemu:///system",
            "attach-disk",
            machine.name,
            path,
            target,
            "--config",
        )
        subprocess.run(attach, check=True, stdout=subprocess.DEVNULL)
    (removal,) = undefine.removals(HERE, [machine.name], keep_volumes=False, delete_data=True)
    assert removal.data == ((pool.name, data_volume(machine.name, "db")),)
    undefine.undefine(HERE, [removal])
    left = {volume.name for volume in volumes.list_ours(connection, pool.name)}
    assert left == {data_volume(machine.name, name) for name in ("db-clone", "other")}


def test_data_that_a_domain_uses_goes_to_no_new_machine(connection, a_machine, pool, users):
    disk = DataDisk(name="db", size=MIB, file_system="ext4", target=None)
    machine = a_machine(pool=pool.name, disks=(disk,))
    volume = volumes.create(
        connection,
        pool.name,
        VolumeDefinition(name=data_volume(machine.name, "db"), capacity=MIB),
    )
    users("file", volume)
    (refused,) = plan([machine], observe(connection)).machines
    assert f"the data in {volume.name}, which domain '{volume.name}-rescue' uses" in refused.refusal
    assert refused.actions == ()


@pytest.mark.parametrize("verbs", [("destroy",), ("destroy", "undefine")])
def test_a_pool_that_goes_away_meanwhile_is_nobodys_business(connection, pool, verbs):
    pools.ensure_pool(connection, f"{pool.name}-other")

    class Handle:
        """Somebody else takes a pool away as soon as it was listed."""

        def __getattr__(self, name):
            return getattr(connection.handle, name)

        def listAllStoragePools(self, flags):  # noqa: N802 -- libvirt's name
            found = connection.handle.listAllStoragePools(flags)
            theirs = connection.handle.storagePoolLookupByName(f"{pool.name}-other")
            for verb in verbs:
                getattr(theirs, verb)()
            return found

    try:
        seen = observe_usage(dataclasses.replace(connection, handle=Handle()), lambda _file: None)
        assert not any(where == f"{pool.name}-other" for where, _ in seen.volumes)
    finally:
        for verb in ("destroy", "undefine"):
            with suppress(libvirt.libvirtError):
                theirs = connection.handle.storagePoolLookupByName(f"{pool.name}-other")
                getattr(theirs, verb)()
