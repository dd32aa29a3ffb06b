# SPDX-License-Identifier: GPL-3.0-or-later
"""Pools, volumes and what is sent to them."""

import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import libvirt
import pytest
from sparse import same_bytes, sparse_file

from pyguixvm.errors import HypervisorError, RequestRefusedError
from pyguixvm.events import Notice, PhaseProgress, ignore
from pyguixvm.hypervisor import domains, pools, upload, volumes
from pyguixvm.hypervisor.connection import connect
from pyguixvm.hypervisor.machine_lock.wait import Tempo
from pyguixvm.hypervisor.observe import observe
from pyguixvm.hypervisor.upload import VolumeExistsError
from pyguixvm.image.blank import make_disk
from pyguixvm.model import volume_names
from pyguixvm.xml.pool import directory_pool_xml
from pyguixvm.xml.volume import VolumeDefinition, volume_xml

MIB = 1024**2
NAME = "pyguixvm-web.g1.qcow2"


LAYOUTS = {
    "empty": (0, []),
    "only a hole": (64 * MIB, []),
    "one byte": (1, [(0, 1)]),
    "full": (9 * MIB + 17, [(0, 9 * MIB + 17)]),
    "data, hole, data": (64 * MIB + 5, [(0, 3 * MIB), (40 * MIB, 5 * MIB + 3)]),
    "ends in data": (33 * MIB, [(32 * MIB, MIB)]),
    "many holes": (400 * MIB, [(i * 8 * MIB, 4096) for i in range(50)]),
    "beyond 4 GiB": (5 * 1024 * MIB, [(4096 * MIB - MIB, 2 * MIB), (5119 * MIB, 512)]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("side", ["connection", "elsewhere"])
def test_an_upload_has_the_same_bytes_and_stays_sparse(request, pool, tmp_path, layout, side):
    size, data = LAYOUTS[layout]
    source = sparse_file(tmp_path / "source", size, data)
    volume = upload.upload_volume(
        request.getfixturevalue(side), pool.name, NAME, source, ignore, "web"
    )
    assert same_bytes(source, volume.path)
    there = Path(volume.path).stat()
    assert there.st_blocks * 512 <= source.stat().st_blocks * 512 + MIB
    assert not volumes.incomplete(request.getfixturevalue(side), pool.name, NAME)


def test_zeros_that_are_stored_are_not_sent(connection, pool, tmp_path):
    source = tmp_path / "zeros"
    source.write_bytes(bytes(32 * MIB) + b"end")
    volume = upload.upload_volume(connection, pool.name, NAME, source, ignore)
    assert same_bytes(source, volume.path)
    assert Path(volume.path).stat().st_blocks * 512 < 8 * MIB


def test_what_comes_back_over_libvirt_is_what_was_sent(connection, pool, tmp_path):
    source = sparse_file(tmp_path / "source", 20 * MIB, [(5 * MIB, 7 * MIB)])
    upload.upload_volume(connection, pool.name, NAME, source, ignore)
    back = tmp_path / "back"
    virsh = ["virsh", "--quiet", "-c", connection.uri]
    subprocess.run([*virsh, "vol-download", "--pool", pool.name, NAME, back], check=True)
    assert same_bytes(source, back)


def test_a_qcow2_overlay_is_known_as_one_after_the_upload(connection, pool, tmp_path):
    overlay = tmp_path / "overlay"
    subprocess.run(["qemu-img", "create", "-qf", "qcow2", overlay, "3G"], check=True)
    volume = upload.upload_volume(connection, pool.name, NAME, overlay, ignore)
    subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", volume.path], check=True)
    pools.free_space(connection, pool.name)  # refreshes
    assert volumes.lookup(connection, pool.name, NAME).capacity == 3 * 1024 * MIB


def test_progress_ends_with_all_of_the_data(connection, pool, tmp_path):
    source = sparse_file(tmp_path / "s", 50 * MIB, [(0, 9 * MIB), (30 * MIB, 2 * MIB)])
    events = []
    upload.upload_volume(connection, pool.name, NAME, source, events.append, "web")
    assert all(isinstance(event, PhaseProgress) and event.machine == "web" for event in events)
    assert [e.done for e in events] == sorted(e.done for e in events)
    assert events[-1].done == events[-1].total == 11 * MIB


def names_in(pool):
    return [path.name for path in Path(pool.path).iterdir()]


class TornDownError(Exception):
    pass


def test_an_upload_that_fails_leaves_nothing(connection, pool, tmp_path):
    def fail(event):
        raise TornDownError

    source = sparse_file(tmp_path / "source", 9 * MIB, [(0, 9 * MIB)])
    with pytest.raises(TornDownError):
        upload.upload_volume(connection, pool.name, NAME, source, fail)
    assert names_in(pool) == []


KILLED = """
import os, signal, sys
from pyguixvm.hypervisor import connection, upload
uri, pool, name, source = sys.argv[1:]
with connection.connect(uri) as c:
    upload.upload_volume(c, pool, name, source, lambda _: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_an_upload_that_was_killed_is_known_and_made_anew(connection, pool, tmp_path):
    source = sparse_file(tmp_path / "source", 40 * MIB, [(0, 40 * MIB)])
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, connection.uri, pool.name, NAME, source], check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert volumes.incomplete(connection, pool.name, NAME)
    assert not volumes.is_whole(connection, pool.name, NAME)

    volume = upload.upload_volume(connection, pool.name, NAME, source, ignore)
    assert same_bytes(source, volume.path)
    assert volumes.is_whole(connection, pool.name, NAME)


def test_a_volume_is_on_disk_before_it_counts(connection, pool, tmp_path, monkeypatch):
    source = tmp_path / "source"
    source.write_bytes(b"precious" * 1024)
    flushed, fdatasync = [], os.fdatasync

    def seen(descriptor):
        fdatasync(descriptor)
        path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        flushed.append((path, f"{NAME}.partial" in names_in(pool)))

    monkeypatch.setattr(os, "fdatasync", seen)
    made = upload.upload_volume(connection, pool.name, NAME, source, ignore)
    assert flushed == [(made.path, True), (str(Path(made.path).parent), True)]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_what_does_not_reach_the_disk_does_not_count(connection, pool, tmp_path, monkeypatch, code):
    source = tmp_path / "source"
    source.write_bytes(b"precious" * 1024)

    def fails(_descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fdatasync", fails)
    with pytest.raises(HypervisorError, match="could not be written to disk"):
        upload.upload_volume(connection, pool.name, NAME, source, ignore)
    assert names_in(pool) == []


def test_a_whole_volume_is_never_overwritten(connection, pool, tmp_path):
    source = sparse_file(tmp_path / "source", MIB, [(0, MIB)])
    volume = upload.upload_volume(connection, pool.name, NAME, source, ignore)
    other = tmp_path / "other"
    other.write_bytes(b"other")
    with pytest.raises(RequestRefusedError, match="exists already"):
        upload.upload_volume(connection, pool.name, NAME, other, ignore)
    assert same_bytes(source, volume.path)


class Elsewhere:
    """An upload by somebody else, chunk by chunk."""

    def __init__(self, connection, pool, source, tempo):
        self._tempo = tempo
        self._steps, self._reached = threading.Semaphore(0), threading.Semaphore(0)
        self.failure = None
        self._thread = threading.Thread(target=self._run, args=(connection, pool, source))
        self._thread.start()
        assert self._reached.acquire(timeout=30)

    def _run(self, connection, pool, source):
        try:
            upload.upload_volume(connection, pool.name, NAME, source, self._hold, tempo=self._tempo)
        except HypervisorError as error:
            self.failure = error

    def _hold(self, _event):
        self._reached.release()
        assert self._steps.acquire(timeout=30)

    def finish(self):
        self._steps.release(100)
        self._thread.join()


# Somebody who is silent for two seconds has died.
QUICK = Tempo(beat=0.2, look=0.05, patience=2.0)


def test_an_upload_that_goes_on_elsewhere_is_waited_for(connection, elsewhere, pool, tmp_path):
    source = sparse_file(tmp_path / "source", 40 * MIB, [(0, 40 * MIB)])
    other = Elsewhere(elsewhere, pool, source, QUICK)
    told = []

    def tell(event):
        told.append(event)
        # It writes nothing for longer than anybody is silent, and lives.
        threading.Timer(2 * QUICK.patience, other.finish).start()

    with pytest.raises(VolumeExistsError):
        upload.upload_volume(connection, pool.name, NAME, source, tell, "web", tempo=QUICK)
    assert other.failure is None
    assert [(type(event), event.machine) for event in told] == [(Notice, "web")]
    assert same_bytes(source, Path(pool.path) / NAME)
    assert volumes.is_whole(connection, pool.name, NAME)


UPLOAD = """
import sys
from pyguixvm.hypervisor import upload
from pyguixvm.hypervisor.connection import connect
from pyguixvm.hypervisor.machine_lock.wait import Tempo
from pyguixvm.hypervisor.observe import observe
from pyguixvm.hypervisor.upload import VolumeExistsError
from pyguixvm.hypervisor.machine_lock.wait import Tempo
from pyguixvm.hypervisor.observe import observe
print("begun", flush=True)
def tell(event):
    print("sent", flush=True)
    sys.stdin.readline()
with connect("qemu:///system") as connection:
    tempo = Tempo(beat=0.2, look=0.05, patience=2.0)
    upload.upload_volume(connection, sys.argv[1], sys.argv[2], sys.argv[3], tell, tempo=tempo)
"""


@pytest.mark.parametrize("how", ["SIGSTOP", "SIGKILL"])
def test_one_that_slept_and_was_taken_over_does_not_vouch_for_the_volume(
    connection, pool, tmp_path, how
):
    source = sparse_file(tmp_path / "source", 40 * MIB, [(0, 40 * MIB)])
    command = [sys.executable, "-c", UPLOAD, pool.name, NAME, str(source)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as other:
        assert [other.stdout.readline().strip() for _ in range(2)] == ["begun", "sent"]
        other.send_signal(getattr(signal, how))
        if how == "SIGKILL":
            other.wait()
        begun = time.monotonic()
        patience = QUICK if how == "SIGSTOP" else None
        upload.upload_volume(connection, pool.name, NAME, source, ignore, tempo=patience)
        # That it died is known at once; that it sleeps, from silence.
        assert how == "SIGSTOP" or time.monotonic() - begun < 20
        other.send_signal(signal.SIGCONT)
        _, said = other.communicate("\n" * 100, timeout=60)
    assert other.returncode != 0
    assert how == "SIGKILL" or "somebody else" in said
    assert same_bytes(source, Path(pool.path) / NAME)
    assert volumes.is_whole(connection, pool.name, NAME)


def test_without_enough_space_nothing_is_begun(connection, pool, tmp_path):
    # A file system of its own: elsewhere others free some space meanwhile.
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8M", "none", pool.path], check=True)
    try:
        needed = pools.free_space(connection, pool.name) + 1
        with pytest.raises(HypervisorError) as refusal:
            pools.require_space(connection, pool.name, needed, f"volume '{NAME}'")
    finally:
        subprocess.run(["umount", pool.path], check=True)
    assert str(needed) in refusal.value.message
    assert str(needed - 1) in refusal.value.message or "free" in refusal.value.message


def test_space_that_came_free_meanwhile_counts(connection, pool):
    free = pools.free_space(connection, pool.name)
    pools.require_space(connection, pool.name, free // 2, "it", lambda: free // 4)
    with pytest.raises(HypervisorError, match=f"it needs .*{2 * free} bytes"):
        pools.require_space(connection, pool.name, 2 * free, "it", lambda: free)


def test_the_space_is_asked_for_before_anything_is_created(connection, pool, tmp_path, monkeypatch):
    monkeypatch.setattr(pools, "free_space", lambda *_: MIB)
    source = sparse_file(tmp_path / "source", 3 * MIB, [(0, 2 * MIB)])
    with pytest.raises(HypervisorError, match=f"{MIB} bytes.*{2 * MIB} bytes"):
        upload.upload_volume(connection, pool.name, NAME, source, ignore)
    assert names_in(pool) == []


# --- volumes ----------------------------------------------------------------


def test_only_our_volumes_are_listed_and_deleted(connection, pool, run):
    volumes.create(connection, pool.name, VolumeDefinition(name=NAME, capacity=1))
    run("virsh", "-q", "vol-create-as", pool.name, "precious.img", "1M")
    assert [v.name for v in volumes.list_ours(connection, pool.name)] == [NAME]
    with pytest.raises(RequestRefusedError, match="not pyguixvm's"):
        volumes.delete(connection, pool.name, "precious.img")
    assert volumes.delete(connection, pool.name, NAME) is True
    assert volumes.delete(connection, pool.name, NAME) is False
    assert names_in(pool) == ["precious.img"]


def test_a_volume_that_somebody_removed_is_not_listed(connection, pool):
    """Libvirt goes on telling its name until the pool is refreshed."""
    for name in (NAME, f"{NAME}-2"):
        made = volumes.create(connection, pool.name, VolumeDefinition(name=name, capacity=MIB))
    Path(made.path).unlink()
    assert [v.name for v in volumes.list_ours(connection, pool.name)] == [NAME]


def test_nothing_is_found_in_a_pool_that_is_not_there(connection):
    assert volumes.lookup(connection, "no-such-pool", NAME) is None
    assert volumes.list_ours(connection, "no-such-pool") == ()
    assert pools.find_pool(connection, "no-such-pool") is None


# --- pools ------------------------------------------------------------------


def test_a_missing_pool_is_made_started_and_kept(connection, pool):
    assert pool.path == f"/var/lib/libvirt/images/{pool.name}"
    assert Path(pool.path).stat().st_mode & 0o777 == 0o711
    handle = connection.handle.storagePoolLookupByName(pool.name)
    assert (handle.isActive(), handle.autostart(), handle.isPersistent()) == (1, 1, 1)


def test_an_inactive_pool_is_started_with_all_that_it_holds(connection, pool):
    keep = Path(pool.path) / "keep"
    keep.write_text("me")
    Path(pool.path).chmod(0o755)
    connection.handle.storagePoolLookupByName(pool.name).destroy()
    assert pools.find_pool(connection, pool.name) is None
    pools.ensure_pool(connection, pool.name)
    assert pools.find_pool(connection, pool.name) == pool
    assert keep.read_text() == "me"
    assert Path(pool.path).stat().st_mode & 0o777 == 0o755


def test_a_pool_that_was_there_is_never_built(connection, tmp_path, run):
    """Its directory may be missing because a disk is not mounted."""
    name, directory = f"unmounted-{tmp_path.name}", tmp_path / "mnt" / "pool"
    run("virsh", "-q", "pool-define-as", name, "dir", "--target", directory)
    try:
        with pytest.raises(RequestRefusedError) as refusal:
            pools.ensure_pool(connection, name)
        assert f"the directory of pool '{name}', {directory}, is not" in refusal.value.message
        assert f"Is what {directory} lies on mounted?" in refusal.value.hint
        assert f"virsh -c {connection.uri} pool-build {name}" in refusal.value.hint
        assert not directory.exists()
        assert not connection.handle.storagePoolLookupByName(name).autostart()
        directory.mkdir(parents=True)
        pools.ensure_pool(connection, name)
        assert pools.find_pool(connection, name).path == str(directory)
        run("virsh", "-q", "pool-destroy", name)
    finally:
        run("virsh", "-q", "pool-undefine", name)


def test_a_pool_that_is_no_directory_is_not_built(connection, tmp_path, run):
    """Libvirt would make a volume group."""
    name = f"logical-{tmp_path.name}"
    run("virsh", "-q", "pool-define-as", name, "logical", "--source-name", "none-of-ours")
    try:
        with pytest.raises(RequestRefusedError) as refusal:
            pools.ensure_pool(connection, name)
        assert f"pool '{name}' is of type 'logical'" in refusal.value.message
        assert not connection.handle.storagePoolLookupByName(name).autostart()
    finally:
        run("virsh", "-q", "pool-undefine", name)


def test_a_pool_that_took_the_place_of_another_is_not_taken_for_it(connection, pool, tmp_path):
    name, ours = pool.name, "pyguixvm-test.g1.qcow2"
    volumes.create(connection, name, VolumeDefinition(ours, MIB))
    (tmp_path / "other").mkdir()
    with connect("qemu:///system") as another:
        handle = another.handle.storagePoolLookupByName(name)
        xml = handle.XMLDesc()
        volumes.create(another, name, VolumeDefinition("pyguixvm-test.g2.qcow2", MIB))
        handle.destroy()
        handle.undefine()
        theirs = another.handle.storagePoolDefineXML(
            directory_pool_xml(name, str(tmp_path / "other"))
        )
        theirs.create()
        theirs.createXML(volume_xml(VolumeDefinition(ours, MIB)))
        with pytest.raises(HypervisorError, match="no storage pool"):
            volumes.delete(connection, name, ours)
        assert theirs.listVolumes() == [ours]
        theirs.destroy()
        theirs.undefine()
        another.handle.storagePoolDefineXML(xml).create()


@pytest.mark.parametrize("undefined_when", ["before it is asked", "after it was asked"])
def test_a_pool_that_goes_while_it_is_looked_at_is_left_out(connection, tmp_path, undefined_when):
    """Somebody stops and undefines it between two requests of a look at all of them."""
    (tmp_path / "going").mkdir()
    name = f"going-{tmp_path.name}"
    real = connection.handle.storagePoolDefineXML(directory_pool_xml(name, str(tmp_path / "going")))
    real.create()

    def listed():
        real.destroy()
        if undefined_when == "before it is asked":
            real.undefine()
        return real.listAllVolumes()

    def active():
        real.undefine()
        return real.isActive()

    class Handle:
        def __getattr__(self, name):
            return getattr(connection.handle, name)

    handle, going = Handle(), SimpleNamespace(listAllVolumes=listed, isActive=active)
    handle.listAllStoragePools = lambda _: [going]
    assert observe(replace(connection, handle=handle)).pools == {}


def test_a_pool_that_cannot_be_made_is_not_left_behind(connection, tmp_path):
    name = f"pool-{tmp_path.name}"
    obstacle = Path(pools.default_directory(connection, name))
    obstacle.write_text("a file")
    try:
        with pytest.raises(HypervisorError):
            pools.ensure_pool(connection, name)
        assert obstacle.read_text() == "a file"
        assert name not in {each.name() for each in connection.handle.listAllStoragePools()}
    finally:
        obstacle.unlink()


@pytest.mark.parametrize("name", ["a/b", "..", "."])
def test_a_pool_that_no_directory_can_be_named_after_is_refused(connection, name):
    with pytest.raises(HypervisorError, match="does not exist"):
        pools.ensure_pool(connection, name)


def test_a_data_volume_is_found_in_its_pool_and_grows(connection, pool, tmp_path):
    disk = tmp_path / "disk"
    make_disk(disk, 128 * MIB, "ext4", "data-db", tmp_path)
    name = volume_names.data_volume("web", "db")
    assert volumes.refreshed(connection, pool.name, name) is None
    upload.upload_volume(connection, pool.name, name, disk, ignore)
    found = volumes.refreshed(connection, pool.name, name)
    assert (found.pool, found.capacity) == (pool.name, 128 * MIB)
    volumes.grow(connection, found, 512 * MIB)
    assert volumes.refreshed(connection, pool.name, name).capacity == 512 * MIB
    subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", found.path], check=True)


def test_a_data_volume_that_is_not_whole_is_not_found(connection, pool, tmp_path):
    name = volume_names.data_volume("web", "db")
    for each in (name, volume_names.marker(name)):
        volumes.create(connection, pool.name, VolumeDefinition(name=each, capacity=MIB))
    assert volumes.refreshed(connection, pool.name, name) is None


def test_a_volume_that_a_definition_refers_to_stays_whatever_is_raised(
    connection, pool, heeding, tmp_path
):
    machine = heeding(pool=pool.name)
    disk = sparse_file(tmp_path / "disk", MIB, [(0, 4096)])
    handle = connection.handle.lookupByName(machine.name)
    xml = handle.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    old = domains.disks(connection, machine.name)[0]
    with (  # noqa: PT012 -- what was done before it was raised is what counts
        pytest.raises(BrokenPipeError),
        upload.uploaded(connection, pool.name, NAME, disk, ignore) as volume,
    ):
        connection.handle.defineXML(xml.replace(old, volume.path))
        raise BrokenPipeError
    assert volumes.is_whole(connection, pool.name, NAME)
    # What nothing refers to any more goes.
    connection.handle.defineXML(xml)
    volumes.delete(connection, pool.name, NAME)
    with (
        pytest.raises(BrokenPipeError),
        upload.uploaded(connection, pool.name, NAME, disk, ignore),
    ):
        raise BrokenPipeError
    assert volumes.lookup(connection, pool.name, NAME) is None
    assert not volumes.incomplete(connection, pool.name, NAME)


def test_a_volume_that_others_put_into_the_directory_is_found(connection, pool):
    """A pool knows of it only when it has looked again."""
    (Path(pool.path) / NAME).write_bytes(bytes(MIB))
    assert volumes.lookup(connection, pool.name, NAME) is None
    assert volumes.refreshed(connection, pool.name, NAME).capacity == MIB


def test_a_volume_of_a_pool_that_is_not_there_is_not_there(connection):
    assert volumes.refreshed(connection, "nowhere", NAME) is None


def test_a_pool_in_which_a_volume_is_being_made_is_waited_for(connection, pool, tmp_path):
    """It refuses to look at its directory meanwhile; another machine's volume is as good."""
    name = volume_names.data_volume("web", "db")
    file = tmp_path / "file"
    file.write_bytes(bytes(MIB))
    made = upload.upload_volume(connection, pool.name, name, file, ignore)
    whole = upload.upload_volume(connection, pool.name, "pyguixvm-large.g1.qcow2", file, ignore)
    Path(whole.path).write_bytes(random.Random(1).randbytes(MIB) * 200)
    handle = connection.handle.storagePoolLookupByName(pool.name)
    handle.refresh()
    source = handle.storageVolLookupByName(whole.name)
    xml = f"<volume><name>pyguixvm-copy.g1.qcow2</name><capacity>{200 * MIB}</capacity></volume>"
    refusals, found = [], []
    copying = threading.Thread(target=lambda: handle.createXMLFrom(xml, source, 0))
    copying.start()
    while copying.is_alive():
        try:
            handle.refresh()
        except libvirt.libvirtError as error:
            refusals.append(str(error))
            found += [
                volumes.refreshed(connection, pool.name, name),
                volumes.at(connection, made.path),
            ]
            break
    copying.join()
    assert "asynchronous jobs" in refusals[0]
    assert [volume.path for volume in found] == [made.path] * 2
