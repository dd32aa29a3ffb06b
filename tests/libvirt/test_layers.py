# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes that put a volume on a root each do not pile up: what is below becomes one volume.

The guests are tiny; that they switch systems is played.
"""

import signal
import subprocess
import time
from pathlib import Path

import libvirt
import msgspec
import pytest
from editions import KILLED, MIB, booted, content, read, return_to, run, run_script, write
from in_place_once import Switching, change_in_place

from pyguixvm.apply.context import Workshop
from pyguixvm.apply.layers import merge_layers
from pyguixvm.errors import HypervisorError, LostLockError
from pyguixvm.events import Notice, PhaseFinished, PhaseStarted, ignore
from pyguixvm.guix.store import Store
from pyguixvm.hypervisor import commit, domains, pools, volumes
from pyguixvm.hypervisor.observe import observe
from pyguixvm.model.applied import Merging
from pyguixvm.model.volume_names import is_base
from pyguixvm.plan import layers
from pyguixvm.plan.drift import differences
from pyguixvm.plan.layers import superfluous

IN_PLACE = Path(__file__).with_name("in_place_once.py")
# As large as a few seconds take, at the least speed that a merge can have.
LARGE = 6


@pytest.fixture
def few(monkeypatch):
    """Have fewer volumes be too many: each takes a second to put there."""
    monkeypatch.setattr(layers, "MOST", 8)
    monkeypatch.setattr(layers, "_NEWEST", 2)


def changed(connection, machine, emit=ignore):
    """Change MACHINE in place; its guest writes its label, six characters, on its root."""

    def switch(_host):
        write(connection, machine.name, machine.image.label)

    outcome = change_in_place(connection, machine, emit, Switching(switch))
    assert outcome.error is None, outcome.error
    return domains.read_metadata(connection, machine.name)


def piled(connection, edition, prefix="s"):
    """Have the root consist of as many volumes as it may."""
    metadata = domains.read_metadata(connection, edition("one").name)
    for number in range(len(metadata.generation.volumes), layers.MOST):
        metadata = changed(connection, edition(f"{prefix:0<3}{number:03}"))
    assert len(metadata.generation.volumes) == layers.MOST
    return metadata


def to_merge(connection, name, metadata):
    """Return what the next change would merge of what the root stands on."""
    return superfluous(observe(connection).domains[name], metadata, "new", ())


def merge(connection, name, action, **fields):
    """Carry out ACTION by itself; return what was warned of."""
    told = []
    store = Store(lambda: pytest.fail("Guix is not needed"), ignore)
    merge_layers(name, action, Workshop(connection, told.append, {}, store, **fields))
    return [event.message for event in told if isinstance(event, Notice)]


def large(connection, edition):
    """Do as `piled`; what is to be merged into the lowest takes a few seconds."""
    changed(connection, edition("first!"))
    machine = edition("second")
    changed(connection, machine)
    disk = "/dev/vda bs=1M seek=1"
    run(connection, machine.name, f"dd if=/dev/urandom of={disk} count={LARGE}; sync")
    return piled(connection, edition)


def require_whole(connection, name, pool):
    """What is remembered is what there is, as it runs and as it is defined, and no more."""
    observed = observe(connection).domains[name]
    metadata = observed.metadata
    assert metadata.merging is None
    current = metadata.generation
    for hardware in (observed.live, observed.defined):
        (root,) = (disk for disk in hardware.stacks if disk.target == "vda")
        chain = [Path(each).name for each in (root.source, *root.below)]
        assert tuple(each for each in chain if not is_base(each)) == current.volumes
    handle = connection.handle.storagePoolLookupByName(pool.name)
    handle.refresh()
    left = {each for each in handle.listVolumes() if not is_base(each)}
    assert left == {volume for _, volume in metadata.roots}
    return metadata


def require_contents(connection, pool, metadata, first, directory):
    """Each generation but the FIRST, which was "before", shows what its guest had written."""
    for generation in metadata.generations:
        if generation.number > first:
            there = content(connection, pool.name, generation.volume, directory)
            assert there == generation.label


@pytest.mark.usefixtures("few")
def test_many_changes_in_a_row_do_not_pile_up(connection, edition, pool, tmp_path):
    name = edition("one").name
    write(connection, name, "before")
    boot = booted(connection, name)
    first = domains.read_metadata(connection, name).current
    before = piled(connection, edition)
    after = changed(connection, edition("merges"))
    require_whole(connection, name, pool)
    assert len(after.generation.volumes) < layers.MOST
    assert booted(connection, name) == boot
    assert read(connection, name) == "merges"
    # The first one and the last ones are there to be returned to, as they were.
    lost = set(before.numbers) - set(after.numbers)
    assert lost
    assert first < min(lost)
    assert max(lost) < after.previous.number
    require_contents(connection, pool, after, first, tmp_path)
    merged = min(number for number in after.numbers if number > first)
    return_to(connection, name, merged)
    assert read(connection, name) == after.find(merged).label
    return_to(connection, name, first)
    assert read(connection, name) == "before"
    return_to(connection, name, after.current)
    assert read(connection, name) == "merges"
    assert differences(edition("merges"), observe(connection).domains[name]) == ()


@pytest.mark.usefixtures("few")
def test_what_another_generation_stands_on_is_not_merged(connection, edition, pool, tmp_path):
    name = edition("one").name
    first = domains.read_metadata(connection, name).current
    metadata = piled(connection, edition)
    last, middle = metadata.current, sorted(metadata.numbers)[len(metadata.numbers) // 2]
    # It gets a volume of its own, since there is something above it.
    return_to(connection, name, middle)
    write(connection, name, metadata.find(middle).label)
    before = piled(connection, edition, "t")
    metadata = changed(connection, edition("merges"))
    require_whole(connection, name, pool)
    assert set(before.numbers) - set(metadata.numbers)
    assert last in metadata.numbers
    require_contents(connection, pool, metadata, first, tmp_path)
    return_to(connection, name, last)
    assert read(connection, name) == metadata.find(last).label


@pytest.mark.usefixtures("few")
def test_what_a_copy_of_others_stands_on_is_not_merged(connection, edition, pool):
    before = piled(connection, edition)
    below = volumes.lookup(connection, pool.name, before.generation.under[3]).path
    copy = Path(pool.path) / "copy.qcow2"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-b", below, "-F", "qcow2", copy], check=True
    )
    try:
        after = changed(connection, edition("merges"))
    finally:
        copy.unlink()
    assert after.merging is None
    assert set(before.numbers) < set(after.numbers)
    assert set(before.generation.volumes) < set(after.generation.volumes)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("ends", ["we", "the guest"])
def test_a_merge_that_is_broken_off_is_gone_on_with(connection, edition, pool, tmp_path, ends):
    name = edition("one").name
    first = domains.read_metadata(connection, name).current
    metadata = large(connection, edition)
    sums = run(connection, name, "dd if=/dev/vda bs=1M skip=1 | md5sum")
    # As somebody who was killed leaves it.
    action = to_merge(connection, name, metadata)
    rest = tuple(g for g in metadata.generations if g.number not in action.generations)
    merging = Merging(action.pool, action.volumes)
    metadata = msgspec.structs.replace(metadata, generations=rest, merging=merging)
    domains.write_metadata(connection, name, metadata)
    top, base = (
        volumes.lookup(connection, pool.name, each).path
        for each in (merging.volumes[0], merging.volumes[-1])
    )
    handle = connection.handle.lookupByName(name)
    handle.blockCommit("vda", base, top, 1, 0)
    assert handle.blockJobInfo("vda", 0)
    if ends == "the guest":
        handle.destroy()
        domains.start(connection, name)
        deadline = time.monotonic() + 60
        while "connected" not in handle.XMLDesc(0).replace("disconnected", ""):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    after = changed(connection, edition("merges"))
    require_whole(connection, name, pool)
    assert not set(merging.volumes[:-1]) & after.volumes
    require_contents(connection, pool, after, first, tmp_path)
    assert run(connection, name, "dd if=/dev/vda bs=1M skip=1 | md5sum") == sums


@pytest.mark.usefixtures("few")
def test_whose_machine_it_is_no_more_merges_nothing(connection, edition):
    name = edition("one").name
    before = piled(connection, edition)

    def require(machine):
        raise LostLockError(f"'{machine}' is another one's")

    with pytest.raises(LostLockError):
        merge(connection, name, to_merge(connection, name, before), require=require)
    assert domains.read_metadata(connection, name) == before


def path_of(connection, pool, volume):
    return volumes.lookup(connection, pool.name, volume).path


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("kind", ["block copy", "active block commit", "block commit"])
def test_what_others_do_to_the_root_is_not_taken_for_ours(connection, edition, pool, kind):
    name = edition("one").name
    before = large(connection, edition)
    handle = connection.handle.lookupByName(name)
    action = to_merge(connection, name, before)
    top, base = (path_of(connection, pool, action.volumes[end]) for end in (0, -1))
    if kind == "block copy":
        copy = f"<disk type='file'><source file='{pool.path}/copy'/><driver type='raw'/></disk>"
        handle.blockCopy("vda", copy, {}, libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB)
    elif kind == "block commit":
        handle.blockCommit("vda", base, top, 1, 0)
    else:
        below = path_of(connection, pool, before.generation.under[0])
        handle.blockCommit("vda", below, None, 1, libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE)
    try:
        (job,) = observe(connection).domains[name].jobs
        assert (job.target, job.kind) == ("vda", kind)
        (warning,) = merge(connection, name, action, sleep=lambda _: pytest.fail("it waits"))
        assert handle.blockJobInfo("vda", 0)
    finally:
        handle.blockJobAbort("vda", 0)
    assert "the volumes that its root stands on stay" in warning
    assert domains.read_metadata(connection, name) == before


@pytest.mark.usefixtures("few")
def test_what_has_no_room_to_be_merged_stays_until_it_has(connection, edition, pool, monkeypatch):
    name = edition("one").name
    before = large(connection, edition)
    action = to_merge(connection, name, before)
    with monkeypatch.context() as full:
        full.setattr(pools, "free_space", lambda *_: LARGE * MIB)
        (warning,) = merge(connection, name, action)
    assert "the volumes that its root stands on stay" in warning
    assert "to merge them needs" in warning
    assert domains.read_metadata(connection, name) == before
    # Where it was begun, too.
    rest = tuple(g for g in before.generations if g.number not in action.generations)
    merging = Merging(action.pool, action.volumes)
    begun = msgspec.structs.replace(before, generations=rest, merging=merging)
    domains.write_metadata(connection, name, begun)
    with monkeypatch.context() as full:
        full.setattr(pools, "free_space", lambda *_: LARGE * MIB)
        assert merge(connection, name, action) == [warning]
    assert merge(connection, name, action) == []
    require_whole(connection, name, pool)


def test_what_is_not_below_the_root_was_not_merged_there(connection, edition, pool):
    name = edition("one").name
    changed(connection, edition("two"))
    metadata = changed(connection, edition("three"))
    top, upper, lower = (path_of(connection, pool, each) for each in metadata.generation.volumes)
    assert commit.stage(connection, name, (upper, lower)) == "to do"
    # Of one that is gone, it is said that it was merged if what it stood on is there.
    assert commit.stage(connection, name, ("/gone", lower)) == "over"
    for files in (("/gone", "/other"), (lower, upper), (upper, "/gone", lower), (top, upper)):
        with pytest.raises(HypervisorError, match="does not stand on"):
            commit.stage(connection, name, files)


def test_a_merge_that_is_killed_anywhere_is_gone_on_with(connection, edition, pool):
    name = edition("one").name
    piled(connection, edition)
    told = []
    changed(connection, edition("counts"), told.append)
    last = sum(isinstance(event, PhaseStarted | PhaseFinished) for event in told)
    merging = 0
    # It is merged before it is waited for.
    for back in range(2, 7):
        piled(connection, edition, f"k{back}")
        killed = run_script(IN_PLACE, edition(f"edit-{back}"), last - back, *KILLED, check=False)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        merging += domains.read_metadata(connection, name).merging is not None
        run_script(IN_PLACE, edition(f"then-{back}"), "never")
        require_whole(connection, name, pool)
    assert merging > 2
