# SPDX-License-Identifier: GPL-3.0-or-later
"""Throwaway copies: what they are made of, and that nothing of them is left."""

import dataclasses
import os
import shutil
import subprocess
import time
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from pathlib import Path

import libvirt
import msgspec
import pytest
from deploying import session
from images import make_image

from pyguixvm.apply import trial
from pyguixvm.apply.context import Workshop
from pyguixvm.apply.root_volume import Root
from pyguixvm.apply.trial import try_root
from pyguixvm.commands import garbage
from pyguixvm.digest.memory import Digests
from pyguixvm.errors import BuildError, RequestRefusedError, TrialFailedError
from pyguixvm.events import Notice, PhaseStarted, ignore
from pyguixvm.guix.store import Store
from pyguixvm.hypervisor import domains, host, transient, upload, volumes
from pyguixvm.hypervisor.base_volume import BaseVolumes
from pyguixvm.hypervisor.connection import capabilities
from pyguixvm.hypervisor.machine_lock.lock import held
from pyguixvm.image import overlay
from pyguixvm.model.declaration import BlockDevice, DataDisk, MountPoint, Networking
from pyguixvm.model.image import Derivation, DirectBoot, ImageContent, SystemImage
from pyguixvm.model.volume_names import data_volume, trial_volume
from pyguixvm.xml.storage import BackingFile
from pyguixvm.xml.text import parse

MIB = 1024**2
SIZE = 256 * MIB
MAC = "52:54:00:77:01:02"
DISK = DataDisk(name="db", size=64 * MIB, file_system="ext4", target="/srv/db")


def no_guix():
    raise BuildError("there is no guix here")


@pytest.fixture
def root(connection, pool, tmp_path):
    """A root volume on a base, as it is before its machine gets it; its guest says nothing."""
    image = make_image(tmp_path)
    digests = Digests(tmp_path / "state")
    base = BaseVolumes(connection, pool.name, digests, ignore).provide(image, digests.of(image))
    file = tmp_path / "root"
    overlay.create_unsafe(Path(base.path), "raw", file, SIZE)
    made = upload.upload_volume(connection, pool.name, "pyguixvm-some.g2.qcow2", file, ignore)
    backing = BackingFile(path=base.path, format="raw", store_item=False)
    return Root(pool.name, made.name, made.path, (backing,), base.name, str(image))


@pytest.fixture
def workshop(connection):
    """Where a second of waiting is none, so that a copy is given up as soon as it was seen."""
    events = []
    begun = time.monotonic()

    def clock():
        return begun + 1000 * (time.monotonic() - begun)

    store = Store(no_guix, ignore)
    made = Workshop(connection, events.append, {"PYGUIXVM_VIRT_TYPE": "qemu"}, store, clock=clock)
    return made, events


def declared(a_machine, pool, **fields):
    return msgspec.structs.replace(a_machine(pool=pool.name, **fields), ready_timeout=2000)


def seen_while(workshop, look):
    """Have LOOK called once while the copy runs, and return what it returned."""
    found = []

    def sleep(seconds):
        if not found:
            found.append(look())
        time.sleep(seconds)

    return dataclasses.replace(workshop, sleep=sleep), found


def names(connection, pool):
    return {volume.name for volume in volumes.list_ours(connection, pool.name)}


def test_what_was_ready_in_a_copy_is_not_booted_again(
    connection, edition, root, workshop, monkeypatch
):
    made, _ = workshop
    started = []
    real = transient.start_paused

    def start_paused(*arguments):
        started.append(arguments[1])
        real(*arguments)

    monkeypatch.setattr(transient, "start_paused", start_paused)
    # Nothing is waited for.
    machine = msgspec.structs.replace(edition("two"), ready=())

    def tries(wanted, trial="direct"):
        before = len(started)
        try_root(wanted, root, SIZE, made, trial)
        return len(started) - before

    assert tries(machine) == 1
    assert tries(machine) == 0
    # The next generation of the same is on another volume.
    other = dataclasses.replace(root, volume="pyguixvm-some.g3.qcow2")
    try_root(machine, other, SIZE, made, "direct")
    assert len(started) == 1
    assert tries(machine, "full") == 1
    domain = msgspec.structs.replace(machine.domain, memory=machine.domain.memory + MIB)
    assert tries(msgspec.structs.replace(machine, domain=domain)) == 1
    assert tries(msgspec.structs.replace(edition("three"), ready=())) == 1
    # One is remembered, the last.
    assert tries(machine) == 1
    assert tries(msgspec.structs.replace(machine, ready_timeout=1)) == 1
    # What is on the host may change.
    mount = MountPoint(source="/srv", target="/r", tag="r", driver="9p", read_only=True)
    sharing = msgspec.structs.replace(machine.domain, mount_points=(mount,))
    seeing = msgspec.structs.replace(machine, domain=sharing)
    assert [tries(seeing), tries(seeing)] == [1, 1]

    # So may its networks, and a machine moves to another one.
    with a_network(connection) as define:
        interfaces = (Networking(network=define("one"), mac_address=MAC),)
        domain = msgspec.structs.replace(machine.domain, networking=interfaces)
        connected = msgspec.structs.replace(machine, domain=domain)
        assert [tries(connected), tries(connected)] == [1, 0]
        define("two")
        assert [tries(connected), tries(connected)] == [1, 0]
    assert [tries(machine), tries(machine)] == [1, 0]
    monkeypatch.setattr(host, "read_host_uuid", lambda _xml: "another")
    assert [tries(machine), tries(machine)] == [1, 0]
    monkeypatch.setattr(host, "host_cpu", lambda _xml: "another")
    assert [tries(machine), tries(machine)] == [1, 0]


@contextmanager
def a_network(connection):
    """Have a network that may be defined anew, in one of several ways; yield what does that."""
    name, uuid = f"tried-{os.getpid()}", "99999999-2222-3333-4444-555555555555"

    def define(domain):
        gone()
        connection.handle.networkDefineXML(
            f"<network><name>{name}</name><uuid>{uuid}</uuid><domain name='{domain}'/></network>"
        ).create()
        return name

    def gone():
        with suppress(libvirt.libvirtError):
            connection.handle.networkLookupByName(name).destroy()

    try:
        yield define
    finally:
        gone()
        connection.handle.networkLookupByName(name).undefine()


def test_what_was_not_ready_in_a_copy_is_booted_again(connection, edition, root, workshop):
    made, _ = workshop
    machine = msgspec.structs.replace(edition("two"), ready_timeout=1)
    for _ in range(2):
        with pytest.raises(TrialFailedError):
            try_root(machine, root, SIZE, made, "direct")
    assert domains.read_metadata(connection, machine.name).tried is None


@pytest.mark.parametrize("firmware", ["bios", "uefi"])
def test_a_copy_has_its_own_of_everything_and_leaves_nothing(
    connection, pool, root, a_machine, workshop, tmp_path, firmware
):
    made, events = workshop
    shared = tmp_path / "shared"
    shared.mkdir()
    machine = declared(
        a_machine,
        pool,
        firmware=firmware,
        disks=(DISK, BlockDevice(device="/dev/no-such-disk")),
        mount_points=(
            MountPoint(source=str(shared), target="/w", tag="w", driver="9p", read_only=False),
            MountPoint(source="/srv", target="/r", tag="r", driver="9p", read_only=True),
        ),
    )
    data = data_volume(machine.name, DISK.name)
    content = tmp_path / "data"
    content.write_bytes(b"precious" * 512)
    upload.upload_volume(connection, pool.name, data, content, ignore)
    before = names(connection, pool)
    root_before = Path(root.path).read_bytes()

    def look():
        domain = connection.handle.lookupByName(f"{machine.name}-test")
        xml = parse(domain.XMLDesc(0))
        written = xml.find("devices/filesystem/source").get("dir")
        theirs = Path(written).stat()
        return xml, domain.isPersistent(), domain.autostart(), theirs

    made, found = seen_while(made, look)
    with pytest.raises(TrialFailedError) as failed:
        try_root(machine, root, SIZE, made, "direct")
    assert failed.value.status == 1
    assert f"'{machine.name}' was left as it is" in failed.value.message
    ((xml, persistent, autostart, theirs),) = found
    assert (persistent, autostart) == (0, 0)
    # Other users of the host neither see nor change what its guest is given.
    assert theirs.st_mode & 0o077 == 0
    assert theirs.st_uid == capabilities(connection).qemu_user
    sources = [source.get("file") for source in xml.findall("devices/disk/source")]
    directory = Path(root.path).parent
    assert sources == [
        str(directory / trial_volume(machine.name)),
        str(directory / trial_volume(machine.name, "db")),
    ]
    assert xml.findtext("devices/disk/serial") == "data-db"
    assert xml.find("devices/disk/backingStore/source").get("file") == root.path
    mac = xml.find("devices/interface/mac").get("address")
    assert mac != machine.domain.networking[0].mac_address
    writable, read_only = xml.findall("devices/filesystem")
    assert writable.find("source").get("dir") != str(shared)
    assert read_only.find("source").get("dir") == "/srv"
    assert read_only.find("readonly") is not None
    warnings = [e.message for e in events if isinstance(e, Notice)]
    assert warnings == ["its throwaway copy goes without /dev/no-such-disk"]
    # Nothing is left, and nothing of the machine's own was written.
    assert names(connection, pool) == before
    assert Path(root.path).read_bytes() == root_before
    assert (directory / data).read_bytes() == content.read_bytes()
    with pytest.raises(libvirt.libvirtError):
        connection.handle.lookupByName(f"{machine.name}-test")
    nvram = xml.findtext("os/nvram")
    assert (nvram is None) == (firmware == "bios")
    assert nvram is None or not Path(nvram).exists()


def bootable(machine, directory):
    """MACHINE with an image of a system whose kernel, in DIRECTORY, does nothing."""
    kernel, initrd = directory / "bzImage", directory / "initrd"
    # Of the oldest protocol with an initial RAM disk (Linux's boot.rst): it jumps over its
    # header, and halts again and again.
    header = b"\xeb\x66" + b"HdrS" + (0x200).to_bytes(2, "little")
    setup = bytes(0x1F1) + b"\x01" + bytes(14) + header
    kernel.write_bytes(setup.ljust(0x268, b"\0") + b"\xf4\xeb\xfd" + bytes(16384))
    initrd.write_bytes(bytes(512))
    item = Derivation("/gnu/store/none.drv", "/gnu/store/none")
    boot = DirectBoot(kernel=str(kernel), initrd=str(initrd), arguments=("root=1", "quiet"))
    content = ImageContent("layout", "uuid", item, item, "/boot/grub/grub.cfg", boot=boot)
    image = SystemImage(
        host_name="some", label="GNU", kernel="none", image_type=None, content=content
    )
    return msgspec.structs.replace(machine, image=image)


def started_by(connection, machine, root, workshop, way):
    """Try MACHINE.

    Return what its copy was started by, and whose that was meanwhile, and what was told of it.
    """
    made, events = workshop
    kernel = Path(machine.image.content.boot.kernel)

    def look():
        found = parse(connection.handle.lookupByName(f"{machine.name}-test").XMLDesc(0))
        return found, kernel.stat().st_uid

    made, found = seen_while(made, look)
    with pytest.raises(TrialFailedError):
        try_root(machine, root, SIZE, made, way)
    (told,) = (e.detail for e in events if isinstance(e, PhaseStarted) and e.phase == "try")
    ((xml, owner),) = found
    return xml.find("os"), owner, told


@pytest.fixture
def read_only(root):
    """What makes a directory where QEMU, which is another user, gets to, read-only as the store."""
    made = Path(root.path).parent / "store"
    made.mkdir()

    def seal():
        subprocess.run(["mount", "--bind", made, made], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", made], check=True)

    yield made, seal
    subprocess.run(["umount", made], check=False)
    shutil.rmtree(made)


@pytest.mark.parametrize("firmware", ["bios", "uefi"])
def test_a_copy_is_started_by_its_kernel(
    connection, pool, root, a_machine, workshop, read_only, firmware
):
    store, seal = read_only
    machine = bootable(declared(a_machine, pool, firmware=firmware), store)
    seal()
    found, owner, told = started_by(connection, machine, root, workshop, "direct")
    boot = machine.image.content.boot
    assert found.findtext("kernel") == boot.kernel
    assert found.findtext("initrd") == boot.initrd
    assert found.findtext("cmdline") == "root=1 quiet"
    assert found.get("firmware") is None
    assert told == f"{machine.name}-test, started by its kernel"
    assert owner == 0


@pytest.mark.parametrize("why", ["asked for", "lost", "writable"])
def test_a_copy_is_started_by_its_boot_loader(
    connection, pool, root, a_machine, workshop, read_only, why
):
    """Where that is asked for, this machine lacks its kernel, or that would become QEMU's."""
    store, seal = read_only
    machine = bootable(declared(a_machine, pool), store)
    if why == "lost":
        Path(machine.image.content.boot.initrd).unlink()
    if why != "writable":
        seal()
    way = "full" if why == "asked for" else "direct"
    found, owner, told = started_by(connection, machine, root, workshop, way)
    assert owner == 0
    assert found.find("kernel") is None
    assert told == f"{machine.name}-test, started by its boot loader"


def test_what_a_killed_run_left_is_replaced(connection, pool, root, a_machine, workshop, tmp_path):
    made, _ = workshop
    machine = declared(a_machine, pool)
    before = names(connection, pool)
    remains = tmp_path / "remains"
    remains.write_bytes(b"half")
    upload.upload_volume(connection, pool.name, trial_volume(machine.name), remains, ignore)
    with pytest.raises(TrialFailedError):
        try_root(machine, root, SIZE, made, "direct")
    assert names(connection, pool) == before


def test_a_copy_that_a_killed_run_left_defined_is_finished(
    connection, pool, root, a_machine, workshop, monkeypatch
):
    """It is, for a moment, to be rid of its NVRAM; the next run is not to be refused for ever."""
    made, _ = workshop
    machine = declared(a_machine, pool, firmware="uefi")
    before = names(connection, pool)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        patched.setattr(domains, "undefine", killed)
        try_root(machine, root, SIZE, made, "direct")
    assert connection.handle.lookupByName(f"{machine.name}-test").isPersistent()
    with pytest.raises(TrialFailedError):
        try_root(machine, root, SIZE, made, "direct")
    assert names(connection, pool) == before
    assert not domains.exists(connection, f"{machine.name}-test")


def test_the_nvram_that_a_killed_run_left_goes_with_a_run_that_has_none(
    connection, pool, root, a_machine, workshop, read_only, monkeypatch
):
    store, seal = read_only
    machine = bootable(declared(a_machine, pool, firmware="uefi"), store)
    seal()
    made, _ = workshop

    def killed():
        domain = connection.handle.lookupByName(f"{machine.name}-test")
        found.append(Path(parse(domain.XMLDesc(0)).findtext("os/nvram")))
        raise KeyboardInterrupt

    found = []
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        patched.setattr(transient, "discard", lambda *_, **__: None)
        patched.setattr(trial, "delete_unused", lambda *_: ())
        try_root(machine, root, SIZE, seen_while(made, killed)[0], "full")
    (nvram,) = found
    assert nvram.exists()
    with pytest.raises(TrialFailedError):
        try_root(machine, root, SIZE, made, "direct")
    assert not nvram.exists()


@pytest.mark.parametrize("locked", [False, True])
def test_what_a_killed_run_left_of_a_copy_is_garbage_unless_one_is_at_work(
    connection, pool, a_machine, tmp_path, locked
):
    machine = declared(a_machine, pool)
    remains = tmp_path / "remains"
    remains.write_bytes(b"half")
    left = [trial_volume(machine.name), trial_volume(machine.name, "db")]
    for name in left:
        upload.upload_volume(connection, pool.name, name, remains, ignore)
    here = session(tmp_path)
    with held(connection, [machine.name], ignore, "deploy") if locked else nullcontext():
        found = garbage.unneeded(here, keep=0, older_than=timedelta(0))
        ours = tuple(volume for volume in found.volumes if volume.pool == pool.name)
        agreed = msgspec.structs.replace(found, generations=(), volumes=ours)
        garbage.collect(here, keep=0, older_than=timedelta(0), agreed=agreed)
        assert names(connection, pool) == (set(left) if locked else set())


@pytest.mark.parametrize("locked", [False, True])
@pytest.mark.parametrize("defined", [False, True])
def test_a_copy_that_a_killed_run_left_is_garbage_unless_one_is_at_work(
    connection, pool, root, a_machine, workshop, monkeypatch, tmp_path, defined, locked
):
    """It is left running if libvirtd was restarted while it did, and defined for its NVRAM."""
    made, _ = workshop
    machine = declared(a_machine, pool, **({"firmware": "uefi"} if defined else {}))
    before, copy = names(connection, pool), f"{machine.name}-test"

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        patched.setattr(domains, "undefine", killed)
        if not defined:
            patched.setattr(transient, "discard", lambda *_, **__: None)
            patched.setattr(trial, "delete_unused", lambda *_: ())
            made, _ = seen_while(made, killed)
        try_root(machine, root, SIZE, made, "direct")
    assert domains.exists(connection, copy)
    here = session(tmp_path)
    with held(connection, [machine.name], ignore, "deploy") if locked else nullcontext():
        found = garbage.unneeded(here, keep=0, older_than=timedelta(0))
        ours = tuple(volume for volume in found.volumes if volume.pool == pool.name)
        mine = tuple(each for each in found.copies if each == copy)
        assert mine == (() if locked else (copy,))
        agreed = msgspec.structs.replace(found, generations=(), volumes=ours, copies=mine)
        garbage.collect(here, keep=0, older_than=timedelta(0), agreed=agreed)
        assert domains.exists(connection, copy) == locked
    if not locked:
        assert names(connection, pool) <= before
    else:
        transient.remove_copy(connection, copy)


def test_an_interrupted_trial_leaves_nothing(connection, pool, root, a_machine, workshop):
    made, _ = workshop
    machine = declared(a_machine, pool)
    before = names(connection, pool)

    def interrupted():
        raise KeyboardInterrupt

    made, _ = seen_while(made, interrupted)
    with pytest.raises(KeyboardInterrupt):
        try_root(machine, root, SIZE, made, "direct")
    assert names(connection, pool) == before
    with pytest.raises(libvirt.libvirtError):
        connection.handle.lookupByName(f"{machine.name}-test")


def test_a_domain_of_that_name_is_left_alone(connection, pool, root, a_machine, defined, workshop):
    made, _ = workshop
    machine = declared(a_machine, pool)
    defined(msgspec.structs.replace(machine, name=f"{machine.name}-test"))
    with pytest.raises(RequestRefusedError, match="there is a domain of that name"):
        try_root(machine, root, SIZE, made, "direct")
    assert connection.handle.lookupByName(f"{machine.name}-test").isPersistent()


def test_a_copy_ends_with_the_connection_that_started_it(connection, elsewhere, a_machine):
    name = f"{a_machine().name}-test"
    xml = (
        f"<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory>"
        "<os><type arch='x86_64' machine='q35'>hvm</type></os></domain>"
    )
    transient.start_paused(elsewhere, name, xml)
    assert connection.handle.lookupByName(name).isActive()
    elsewhere.handle.close()
    deadline = time.monotonic() + 10
    with suppress(libvirt.libvirtError):
        while connection.handle.lookupByName(name).isActive():
            assert time.monotonic() < deadline, "it still runs"
            time.sleep(0.1)
