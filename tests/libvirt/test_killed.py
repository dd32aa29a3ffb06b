# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever is killed, at whatever moment: the next run finishes it, and no data is lost."""

import os
import random
import signal
import subprocess
import time
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from boot_sector import halting
from deploying import MIB, changed, session, take_away, with_image
from killing import begun, end, kill_after, moments

from pyguixvm.commands import garbage, undefine
from pyguixvm.hypervisor import domains, volumes
from pyguixvm.hypervisor.machine_lock.lock import holder
from pyguixvm.hypervisor.observe import observe
from pyguixvm.model.declaration import ConsoleReady, DataDisk
from pyguixvm.model.volume_names import data_volume, is_base, is_marker
from pyguixvm.plan.drift import differences

ONCE = Path(__file__).with_name("killed_once.py")
BOOTABLE = halting()
DATA = random.Random(1).randbytes(3 * MIB + 17)


class Victim:
    """A machine with data that nobody else has, and what is done to it."""

    def __init__(self, connection, machine, directory):
        self.connection = connection
        self.machine = machine
        self.directory = directory
        self._editions = 0

    def start(self, verb, event=0):
        document = msgspec.json.encode(self.machine).decode()
        return begun(ONCE, verb, document, event, self.directory / "state")

    def run(self, verb):
        """Do VERB whole; return how long (seconds) it took."""
        since = time.monotonic()
        end(self.start(verb))
        return time.monotonic() - since

    def kill_after(self, verb, seconds):
        kill_after(self.start(verb), seconds)

    def another_edition(self):
        """Have the next deployment make a new root, and grow the data disk."""
        self._editions += 1
        image = self.directory / f"edition-{self._editions}.raw"
        image.write_bytes(BOOTABLE + bytes([self._editions % 256]))
        size = (128 + self._editions) * MIB
        disk = DataDisk(name="db", size=size, file_system="ext4", target=None)
        self.machine = with_image(changed(self.machine, disks=(disk,)), image)

    @property
    def disk(self):
        name = data_volume(self.machine.name, "db")
        return volumes.refreshed(self.connection, self.machine.domain.pool, name)

    def write_data(self):
        raw = self.directory / "data.raw"
        raw.write_bytes(DATA)
        os.truncate(raw, self.disk.capacity)
        domains.destroy(self.connection, self.machine.name)
        subprocess.run(["qemu-img", "convert", "-nO", "qcow2", raw, self.disk.path], check=True)
        domains.start(self.connection, self.machine.name)

    def there(self):
        pool = self.connection.handle.storagePoolLookupByName(self.machine.domain.pool)
        pool.refresh()
        return {name for name in pool.listVolumes() if not is_base(name)}

    def require_data(self):
        raw = self.directory / "seen.raw"
        subprocess.run(["qemu-img", "convert", "-UO", "raw", self.disk.path, raw], check=True)
        with raw.open("rb") as file:
            assert file.read(len(DATA)) == DATA

    def require_usable(self):
        """Whatever was killed: what the definition refers to is there."""
        name = self.machine.name
        if domains.exists(self.connection, name):
            # libvirtd may still be at what it was asked for last; a change waits for that.
            remembered = domains.read_metadata(self.connection, name)
            domains.write_metadata(self.connection, name, remembered)
            if domains.state(self.connection, name) == "shut off":
                domains.start(self.connection, name)
            assert domains.state(self.connection, name) in {"running", "paused"}

    def require_converged(self):
        """The machine is as declared, and nothing is there that it does not know."""
        name = self.machine.name
        found = observe(self.connection).domains[name]
        assert found.state == "running"
        assert differences(self.machine, found) == ()
        assert found.metadata.fallback is None
        assert holder(self.connection, name) is None
        self.require_data()

    def require_nothing_left(self):
        """After gc, that is."""
        self.run("gc")
        name, known = self.machine.name, set()
        if domains.exists(self.connection, name):
            known = set(domains.read_metadata(self.connection, name).volumes)
        assert self.there() == known | {data_volume(name, "db")}


@pytest.fixture
def victim(connection, a_machine, pool, tmp_path):
    """A machine that runs, with data."""
    made = Victim(connection, a_machine(ready=(ConsoleReady("up"),), pool=pool.name), tmp_path)
    made.another_edition()
    made.run("deploy")
    made.write_data()
    yield made
    take_away(made.machine.name)


def deployed_again(victim):
    victim.require_usable()
    victim.run("deploy")
    victim.require_converged()
    assert not any(map(is_marker, victim.there()))


def test_a_deployment_that_is_killed_at_any_step_is_taken_up_by_the_next(victim):
    event, status = 0, -signal.SIGKILL
    while status == -signal.SIGKILL:
        event += 1
        victim.another_edition()
        process = victim.start("deploy", event)
        _, errors = process.communicate(timeout=300)
        status = process.returncode
        assert status in {0, -signal.SIGKILL}, errors
        deployed_again(victim)
    assert event > 5
    victim.require_nothing_left()


def test_a_deployment_that_is_killed_at_any_moment_is_taken_up_by_the_next(victim):
    victim.another_edition()
    for moment in moments(victim.run("deploy")):
        victim.another_edition()
        victim.kill_after("deploy", moment)
        deployed_again(victim)
        victim.require_nothing_left()


def test_a_trial_that_is_killed_at_any_moment_leaves_the_machine_and_nothing_of_its_copy(victim):
    """The machine is changed only after its copy got ready."""
    victim.another_edition()
    for moment in moments(victim.run("trial")):
        before = domains.read_metadata(victim.connection, victim.machine.name)
        victim.another_edition()
        victim.kill_after("trial", moment)
        victim.require_usable()
        victim.require_data()
        after = domains.read_metadata(victim.connection, victim.machine.name)
        assert after.current in {before.current, before.current + 1}
        victim.run("trial")
        victim.require_converged()
        victim.require_nothing_left()
        assert not domains.exists(victim.connection, f"{victim.machine.name}-test")


def test_a_way_back_that_is_killed_at_any_moment_can_be_gone_again(victim):
    first = victim.machine
    memory = 2 * first.domain.memory
    image = victim.directory / "second.raw"
    image.write_bytes(BOOTABLE)
    second = with_image(changed(first, memory=memory, maximum_memory=memory), image)
    victim.machine = second
    victim.run("deploy")
    declared = {1: first, 2: second}
    for number, moment in enumerate(moments(victim.run("1"))):
        target = 2 - number % 2
        victim.machine = declared[target]
        victim.kill_after(str(target), moment)
        victim.require_usable()
        if domains.read_metadata(victim.connection, victim.machine.name).current != target:
            victim.run(str(target))
        # It may not have been waited for.
        victim.run("deploy")
        victim.require_converged()
        metadata = domains.read_metadata(victim.connection, victim.machine.name)
        assert (metadata.current, metadata.numbers) == (target, (1, 2))
    victim.require_nothing_left()


def test_a_removal_that_is_killed_at_any_moment_is_finished(victim):
    seconds = victim.run("undefine")
    victim.require_data()
    for moment in moments(seconds):
        victim.run("deploy")
        victim.require_converged()
        victim.kill_after("undefine", moment)
        victim.require_usable()
        victim.require_data()
        if domains.exists(victim.connection, victim.machine.name):
            victim.run("undefine")
        victim.require_nothing_left()
        victim.require_data()


def test_a_collection_that_is_killed_at_any_moment_is_finished(victim):
    def outdated():
        for _ in range(2):
            victim.another_edition()
            victim.run("deploy")

    outdated()
    for moment in moments(victim.run("gc")):
        outdated()
        victim.kill_after("gc", moment)
        victim.require_converged()
        victim.require_nothing_left()
        victim.run("deploy")
        victim.require_converged()


def killed(*_, **__):
    raise KeyboardInterrupt


def test_roots_of_a_machine_that_is_gone_already_are_garbage(victim, monkeypatch):
    """As if it was killed between the definition and the volumes; data is none."""
    here = session(victim.directory)
    agreed = undefine.removals(here, [victim.machine.name], keep_volumes=False)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        patched.setattr(undefine, "delete_others", killed)
        undefine.undefine(here, agreed)
    assert not domains.exists(victim.connection, victim.machine.name)
    victim.require_nothing_left()
    victim.require_data()


def test_a_root_that_is_forgotten_already_is_garbage(victim, monkeypatch):
    for _ in range(2):
        victim.another_edition()
        victim.run("deploy")
    here = session(victim.directory)
    found = garbage.unneeded(here, keep=0, older_than=timedelta(0))
    agreed = msgspec.structs.replace(
        found,
        generations=((victim.machine.name, 1),),
        volumes=tuple(v for v in found.volumes if v.pool == victim.machine.domain.pool),
    )
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        patched.setattr(volumes, "delete", killed)
        garbage.collect(here, keep=0, older_than=timedelta(0), agreed=agreed)
    assert domains.read_metadata(victim.connection, victim.machine.name).numbers == (2, 3)
    victim.require_nothing_left()
    victim.require_converged()


def test_roots_that_are_kept_are_not_garbage(victim):
    before = victim.there()
    here = session(victim.directory)
    agreed = undefine.removals(here, [victim.machine.name], keep_volumes=True)
    undefine.undefine(here, agreed)
    victim.run("gc")
    assert victim.there() == before
