# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes of a guest by its agent, saved again and again, and the ways back.

The guests are tiny; what they are given are scripts, sent and run as systems are.
"""

import signal
from pathlib import Path

import msgspec
import pytest
from editions import (
    KILLED,
    booted,
    content,
    read,
    run,
    run_script,
    write,
)
from live_once import FURNISH, Living, change_live

from pyguixvm.commands.undefine import root_volumes
from pyguixvm.errors import NotLiveError, RolledBackError
from pyguixvm.events import Notice, ignore
from pyguixvm.hypervisor import domains
from pyguixvm.hypervisor.observe import observe
from pyguixvm.model.volume_names import is_base, is_marker
from pyguixvm.plan.drift import differences

LIVE = Path(__file__).with_name("live_once.py")


@pytest.fixture
def furnished(connection, edition):
    run(connection, edition("one").name, FURNISH)
    return edition


def system_of(connection, name):
    return run(connection, name, "cat /run/system")


def left_volumes(pool, connection):
    """Return the volumes of POOL beside bases."""
    handle = connection.handle.storagePoolLookupByName(pool.name)
    handle.refresh()
    return {each for each in handle.listVolumes() if not is_base(each)}


def test_ten_saves_in_a_row_take_one_volume_and_are_taken_back_together(
    connection, furnished, pool, tmp_path
):
    name = furnished("one").name
    write(connection, name, "before")
    old = domains.read_metadata(connection, name).generation
    boot = booted(connection, name)
    told = []
    for number in range(10):
        machine = furnished(f"save-{number}")
        outcome = change_live(connection, machine, told.append, Living(tmp_path))
        assert (outcome.outcome, outcome.error) == ("updated", None)
        assert system_of(connection, name) == f"save-{number}"
        observed = observe(connection).domains[name]
        assert differences(machine, observed) == ()
        assert observed.metadata.fallback is None
        current = observed.metadata.generation
        assert (current.number, current.label) == (old.number + 1, f"save-{number}")
        assert current.under == (old.volume, *old.under)
        write(connection, name, f"save-{number}")
    # That it keeps its state is no news after the first.
    assert len([e for e in told if isinstance(e, Notice) and "keeps its state" in e.message]) == 1
    known = {volume for _, volume in root_volumes(observed.metadata)}
    assert left_volumes(pool, connection) == known
    assert booted(connection, name) == boot

    broken = Living(tmp_path, "printf broken > /run/system; echo it does not want to >&2; false")
    outcome = change_live(connection, furnished("broken"), ignore, broken)
    assert isinstance(outcome.error, RolledBackError)
    assert "it does not want to" in outcome.error.message
    assert read(connection, name) == "before"
    metadata = domains.read_metadata(connection, name)
    assert (metadata.current, metadata.fallback) == (old.number, None)
    failed = metadata.find(old.number + 1)
    assert failed.failed
    assert content(connection, pool.name, failed.volume, tmp_path) == "save-9"
    # What was taken back is not written to again.
    run(connection, name, FURNISH)
    machine = furnished("mended")
    outcome = change_live(connection, machine, ignore, Living(tmp_path))
    assert outcome.error is None
    current = domains.read_metadata(connection, name).generation
    assert current.number > failed.number
    assert failed.volume not in current.volumes
    assert content(connection, pool.name, failed.volume, tmp_path) == "save-9"


def test_a_save_that_the_guest_does_not_take_leaves_the_ones_before(
    connection, furnished, tmp_path
):
    name = furnished("one").name
    assert change_live(connection, furnished("two"), ignore, Living(tmp_path)).error is None
    before = domains.read_metadata(connection, name)
    run(connection, name, "mv /gnu/store /gnu/away")
    outcome = change_live(connection, furnished("three"), ignore, Living(tmp_path))
    assert isinstance(outcome.error, NotLiveError)
    assert "did not take what it lacks" in outcome.error.message
    assert domains.read_metadata(connection, name) == before
    run(connection, name, "mv /gnu/away /gnu/store")
    assert change_live(connection, furnished("three"), ignore, Living(tmp_path)).error is None
    assert system_of(connection, name) == "three"
    assert domains.read_metadata(connection, name).current == before.current


def test_what_the_guest_lost_meanwhile_is_sent_to_it(connection, furnished, tmp_path):
    name = furnished("one").name
    asked = []

    class Kept:
        """What stands for this machine's store."""

        def items_beyond(self, present, wanted):
            asked.append((present, wanted))
            return activation.made

    class Unaware(Living):
        """It takes for granted that the guest has everything."""

        def prepare_live(self, target):
            system = super().prepare_live(target)
            self.made = system.items
            return msgspec.structs.replace(system, items=())

    activation = Unaware(tmp_path)
    outcome = change_live(connection, furnished("two"), ignore, activation, Kept())
    assert outcome.error is None
    assert system_of(connection, name) == "two"
    (item,) = activation.made
    assert asked == [(set(), (f"/gnu/store/{Path(item.path).name}",))]


def test_a_save_that_is_killed_anywhere_is_taken_up_by_the_next(
    connection, furnished, pool, tmp_path
):
    name = furnished("one").name
    number, event = 2, 1
    while True:
        machine = furnished(f"edition-{number}")
        killed = run_script(LIVE, machine, event, tmp_path, *KILLED, check=False)
        if killed.returncode == 0:
            break
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert domains.state(connection, name) == "running"
        run_script(LIVE, machine, "never", tmp_path)
        assert system_of(connection, name) == f"edition-{number}"
        observed = observe(connection).domains[name]
        assert differences(machine, observed) == ()
        assert observed.metadata.fallback is None
        left = left_volumes(pool, connection)
        assert not any(is_marker(volume) for volume in left)
        assert left == {volume for _, volume in root_volumes(observed.metadata)}
        number, event = number + 1, event + 1
    assert event > 6
    # Each stayed on the volume of the first, but where that was being made.
    assert len(observed.metadata.generation.under) <= 4
