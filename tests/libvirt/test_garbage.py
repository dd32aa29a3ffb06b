# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in the making is no garbage while whoever makes it holds a lock, quick or slow."""

from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from deploying import session, virsh

from pyguixvm.commands import garbage
from pyguixvm.errors import HypervisorError
from pyguixvm.events import ignore
from pyguixvm.hypervisor import incomplete_volume, upload, volumes
from pyguixvm.hypervisor.machine_lock.lock import held, holders
from pyguixvm.image import overlay
from pyguixvm.model.volume_names import generation_volume, marker
from pyguixvm.xml.volume import VolumeDefinition

BASE = f"pyguixvm-{'b' * 32}.img"


@pytest.mark.parametrize("base", [False, True])
def test_what_is_made_slowly_stays_while_its_maker_holds_the_lock(
    connection, pool, a_machine, tmp_path, base
):
    name = a_machine().name
    volume = BASE if base else generation_volume(name, 1)
    for each in (volume, marker(volume)):
        volumes.create(connection, pool.name, VolumeDefinition(name=each, capacity=4096))

    def waste():
        found = garbage.unneeded(session(tmp_path), keep=0, older_than=timedelta(0))
        return {each.name for each in found.volumes}

    agreed = garbage.unneeded(session(tmp_path), keep=0, older_than=timedelta(0))
    assert volume in {each.name for each in agreed.volumes}
    with held(connection, (name,), ignore, "deploy"):
        # Nothing was written to it for however long.
        assert volume not in waste()
        garbage.collect(session(tmp_path), keep=0, older_than=timedelta(0), agreed=agreed)
        assert volumes.incomplete(connection, pool.name, volume)
    assert volume in waste()
    volumes.delete(connection, pool.name, volume)


@pytest.fixture
def base(connection, pool):
    """A base volume that nothing stands on."""
    made = volumes.create(connection, pool.name, VolumeDefinition(name=BASE, capacity=4096))
    yield made
    volumes.delete(connection, pool.name, BASE)


def test_a_base_stays_for_who_comes_while_garbage_is_collected(
    connection, pool, base, a_machine, tmp_path, monkeypatch
):
    """Who holds a lock may have found it whole, and is about to lay a root on it."""
    here, name = session(tmp_path), a_machine().name
    agreed = only(pool, garbage.unneeded(here, keep=0, older_than=timedelta(0)))
    assert [each.name for each in agreed.volumes] == [BASE]
    look = garbage._unneeded
    with ExitStack() as coming, monkeypatch.context() as patched:

        def looked(*arguments):
            found = look(*arguments)
            if name not in holders(connection):
                coming.enter_context(held(connection, (name,), ignore, "deploy"))
            return found

        patched.setattr(garbage, "_unneeded", looked)
        done = garbage.collect(here, keep=0, older_than=timedelta(0), agreed=agreed)
        assert done.volumes == ()
        assert volumes.is_whole(connection, pool.name, BASE)
    assert garbage.collect(here, keep=0, older_than=timedelta(0), agreed=agreed).volumes != ()
    assert volumes.lookup(connection, pool.name, BASE) is None


def test_a_base_that_was_laid_on_is_not_made_anew_whatever_marks_it(
    connection, pool, base, a_machine, tmp_path
):
    """Whoever collected garbage may be killed before it takes back what it meant to delete."""
    root = tmp_path / "root.qcow2"
    overlay.create_unsafe(Path(base.path), "raw", root, 4096)
    upload.upload_volume(connection, pool.name, "pyguixvm-some.g1.qcow2", root, ignore)
    before = Path(base.path).stat()
    incomplete_volume.condemn(connection, pool.name, BASE)
    with incomplete_volume.made_by_us(connection, pool.name, BASE, ignore):
        pass
    assert volumes.is_whole(connection, pool.name, BASE)
    assert Path(base.path).stat().st_ino == before.st_ino
    volumes.delete(connection, pool.name, "pyguixvm-some.g1.qcow2")


def test_of_a_pool_that_is_stopped_meanwhile_nothing_counts_as_taken_over(connection, pool, base):
    incomplete_volume.condemn(connection, pool.name, BASE)
    handle = connection.handle.storagePoolLookupByName(pool.name)
    handle.destroy()
    try:
        with pytest.raises(HypervisorError, match="not active"):
            incomplete_volume.take_over(connection, pool.name, BASE, ignore)
    finally:
        handle.create()
    assert volumes.incomplete(connection, pool.name, BASE)
    incomplete_volume.take_over(connection, pool.name, BASE, ignore)
    assert volumes.lookup(connection, pool.name, BASE) is None


def test_what_cannot_be_marked_goes_all_the_same(connection, pool, base, tmp_path, monkeypatch):
    """People collect garbage when a disk is full."""

    def full(*_):
        raise HypervisorError("no space left on device")

    here = session(tmp_path)
    agreed = only(pool, garbage.unneeded(here, keep=0, older_than=timedelta(0)))
    monkeypatch.setattr(volumes, "create_handle", full)
    done = garbage.collect(here, keep=0, older_than=timedelta(0), agreed=agreed)
    assert [each.name for each in done.volumes] == [BASE]
    assert volumes.lookup(connection, pool.name, BASE) is None


def test_the_mark_of_who_makes_it_anew_stays(connection, pool, base):
    condemned = incomplete_volume.condemn(connection, pool.name, BASE)
    with incomplete_volume.incomplete_until_done(connection, pool.name, BASE, goes_on=True):
        condemned.reprieve()
        assert volumes.incomplete(connection, pool.name, BASE)
    assert volumes.is_whole(connection, pool.name, BASE)
    condemned = incomplete_volume.condemn(connection, pool.name, BASE)
    condemned.reprieve()
    assert volumes.is_whole(connection, pool.name, BASE)


def only(pool, found):
    """Return what was FOUND in POOL."""
    ours = tuple(each for each in found.volumes if each.pool == pool.name)
    return msgspec.structs.replace(found, generations=(), volumes=ours, copies=())


def test_a_root_whose_machine_somebody_undefined_is_told_and_stays(
    connection, halting, pool, tmp_path
):
    def stray():
        found = garbage.unneeded(session(tmp_path), keep=0, older_than=timedelta(0))
        assert not any(volume.pool == pool.name for volume in found.volumes)
        return [each.name for each in found.stray if each.pool == pool.name]

    assert stray() == []
    virsh(f"destroy {halting.name}")
    virsh(f"undefine {halting.name}")
    assert stray() == [generation_volume(halting.name, 1)]
