# SPDX-License-Identifier: GPL-3.0-or-later
"""What somebody changes with virsh is found, field by field, and what nobody changed is not."""

import json
import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import libvirt
import msgspec
import pytest
from boot_sector import halting
from deploying import deploy, session, virsh, with_image

from pyguixvm.commands.status import applied_statuses
from pyguixvm.hypervisor.connection import connect
from pyguixvm.model.declaration import ConsoleReady, DataDisk, LibvirtDomain, MountPoint, Networking
from pyguixvm.model.plain_fields import PLAIN_FIELDS
from pyguixvm.model.volume_names import data_volume
from pyguixvm.xml.text import parse, render

MIB = 1024**2
RESTARTED = Path(__file__).with_name("restart-libvirtd")


@pytest.fixture
def machine(connection, a_machine, pool, tmp_path):
    """A deployed machine that runs and has something in every field."""
    image, shared = tmp_path / "image.raw", Path(pool.path) / "shared"
    image.write_bytes(halting())
    shared.mkdir()
    (mac,) = (each.mac_address for each in a_machine().domain.networking)
    declared = a_machine(
        ready=(ConsoleReady("up"),),
        pool=pool.name,
        cpu=2,
        maximum_cpu=4,
        title="a title",
        description="as declared",
        virtualization="qemu",
        disks=(DataDisk(name="db", size=128 * MIB, file_system="ext4", target=None),),
        mount_points=(
            MountPoint(str(shared), target=None, tag="shared", driver="9p", read_only=True),
        ),
        networking=(Networking("default", mac),),
    )
    declared = with_image(declared, image)
    assert deploy(connection, declared) is None
    yield declared
    # A connection of its own: a test may have restarted libvirtd.
    with connect(connection.uri) as last:
        handle = last.handle.lookupByName(declared.name)
        with suppress(libvirt.libvirtError):
            handle.destroy()
        handle.undefine()


def found(machine, tmp_path):
    """Return the paths of what differs from what was applied to MACHINE, and its status."""
    (status,) = applied_statuses(session(tmp_path), [machine.name])
    return {difference.path for difference in status.differences}, status.status


def inactive(machine):
    return virsh(f"dumpxml --inactive {machine.name}")


def define(xml, tmp_path):
    file = tmp_path / "domain.xml"
    file.write_text(xml)
    virsh(f"define {file}")


def edited(change):
    """Return what changes the XML of a machine by hand as CHANGE does with its element."""

    def by_hand(machine, tmp_path):
        domain = parse(inactive(machine))
        change(domain)
        define(render(domain), tmp_path)

    return by_hand


def by_virsh(command):
    def by_hand(machine, _):
        mac = machine.domain.networking[0].mac_address
        virsh(command.format(name=machine.name, mac=mac))

    return by_hand


def plain(field):
    """Return what changes the plain FIELD, whatever it is: a new one is changed by this, too."""
    path, _, attribute = field.in_xml.at.partition("@")

    def change(domain):
        node = domain.find(path.rstrip("/"))
        if not attribute:
            node.text = f"not {node.text}"
            return
        booleans = set(field.in_xml.booleans)
        (kind,) = (f for f in msgspec.inspect.type_info(LibvirtDomain).fields
                   if f.encode_name == field.name)  # fmt: skip
        kind = kind.type
        values = getattr(kind, "values", None) or booleans
        (other, *_) = sorted(set(map(str, values)) - {node.get(attribute)})
        node.set(attribute, other)

    return edited(change)


def rooted_elsewhere(domain):
    source = domain.find("devices/disk/source")
    source.set("file", f"/var/lib/libvirt/images/elsewhere/{Path(source.get('file')).name}")


def other_directory(domain):
    domain.find("devices/filesystem/source").set("dir", "/somewhere")


def uefi(domain):
    domain.find("os").set("firmware", "efi")


def grown(machine, _):
    path = subprocess.run(
        ["virsh", "-q", "vol-path", "--pool", machine.domain.pool, data_volume(machine.name, "db")],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    virsh(f"blockresize {machine.name} {path} 256M")


# By each field of <libvirt-domain>, what changes it by hand, and which difference that is.
BY_HAND = {
    "cpu": [(by_virsh("setvcpus {name} 1 --config"), "domain.cpu")],
    "maximum-cpu": [(by_virsh("setvcpus {name} 6 --config --maximum"), "domain.maximum-cpu")],
    "memory": [(by_virsh("setmem {name} 96M --config"), "domain.memory")],
    "maximum-memory": [
        (by_virsh("setmaxmem {name} 512M --config"), "domain.maximum-memory"),
    ],
    "networking": [
        (by_virsh("domif-setlink {name} {mac} down --config"), "domain.networking.{mac}"),
        (by_virsh("detach-interface {name} network --mac {mac} --config"),
         "domain.networking.{mac}"),
    ],
    "autostart": [(by_virsh("autostart {name}"), "domain.autostart")],
    "pool": [(edited(rooted_elsewhere), "root")],
    "firmware": [(edited(uefi), "domain.firmware")],
    "disks": [(by_virsh("detach-disk {name} vdb --config"), "domain.disks.db")],
    "mount-points": [(edited(other_directory), "domain.mount-points.shared")],
    **{field.name: [(plain(field), field.path)] for field in PLAIN_FIELDS},
}  # fmt: skip
# What stands in no definition: the size of the root has a test of its own, arguments are in
# the image, and another kind of virtualization is not there in a test bed.
ELSEWHERE = {"storage", "kernel-arguments", "virtualization"}


def test_there_is_a_change_by_hand_for_every_field():
    fields = {field.encode_name for field in msgspec.structs.fields(LibvirtDomain)}
    assert fields == BY_HAND.keys() | ELSEWHERE


def test_every_field_that_is_changed_by_hand_is_found(machine, tmp_path):
    assert found(machine, tmp_path) == (set(), "deployed")
    before = inactive(machine)
    (mac,) = (each.mac_address for each in machine.domain.networking)
    seen, wanted = {}, {}
    for name, changes in BY_HAND.items():
        for number, (change, path) in enumerate(changes):
            change(machine, tmp_path)
            seen[name, number], status = found(machine, tmp_path)
            assert status in {"drifted", "pending restart"}, name
            wanted[name, number] = {path.format(mac=mac)}
            define(before, tmp_path)
            virsh(f"autostart --disable {machine.name}")
            assert found(machine, tmp_path) == (set(), "deployed"), name
    assert seen == wanted


def test_sizes_that_are_changed_by_hand_are_found(machine, tmp_path):
    grown(machine, tmp_path)
    assert found(machine, tmp_path) == ({"domain.disks.db.size"}, "drifted")
    virsh(f"blockresize {machine.name} vda 32M")
    assert found(machine, tmp_path)[0] == {"domain.disks.db.size", "domain.storage"}


def test_what_changes_nothing_is_no_drift(machine, tmp_path):
    assert found(machine, tmp_path) == (set(), "deployed")
    for editor in ("true", "touch", "sed -i s/^$//"):
        done = subprocess.run(["virsh", "edit", machine.name], env={**os.environ, "EDITOR": editor})
        assert done.returncode == 0
        assert found(machine, tmp_path) == (set(), "deployed")
    # Libvirt adds its defaults, and whatever else it thinks of.
    define(inactive(machine), tmp_path)
    virsh(f"setmem {machine.name} 256M --config")
    assert found(machine, tmp_path) == (set(), "deployed")
    virsh(f"reset {machine.name}")
    assert found(machine, tmp_path) == (set(), "deployed")
    subprocess.run([RESTARTED], check=True)
    assert found(machine, tmp_path) == (set(), "deployed")


def test_what_is_to_be_ignored_is_told_and_counts_for_nothing(machine, connection, tmp_path):
    here = session(tmp_path)
    virsh(f"setvcpus {machine.name} 1 --config")
    virsh(f"desc {machine.name} --config changed")
    (status,) = applied_statuses(here, [machine.name], ["domain.cpu"])
    assert [each.path for each in status.differences] == ["domain.description"]
    assert [each.path for each in status.ignored] == ["domain.cpu"]
    (status,) = applied_statuses(here, [machine.name], ["domain"])
    assert (status.status, status.differences) == ("deployed", ())
    virsh(f"desc {machine.name} --config 'as declared'")
    tolerant = msgspec.structs.replace(machine, ignore_drift=("domain.cpu",))
    virsh(f"setvcpus {machine.name} 2 --config")
    assert deploy(connection, tolerant) is None
    virsh(f"setvcpus {machine.name} 1 --config")
    assert found(machine, tmp_path) == (set(), "deployed")


def test_whoever_may_only_look_sees_the_same(machine, tmp_path):
    virsh(f"autostart {machine.name}")
    (as_root,) = applied_statuses(session(tmp_path), [machine.name])
    done = subprocess.run(
        ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups",
         shutil.which("pyguixvm"), "-c", "qemu:///system?ro", "status", "--json", machine.name],
        capture_output=True, text=True, cwd="/", env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (seen,) = json.loads(done.stdout)["machines"]
    assert seen["status"] == "drifted"
    assert seen["differences"] == [msgspec.to_builtins(each) for each in as_root.differences]
    assert seen["guest"]["verdict"] == "unknown"
