# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes of a guest by its agent, saved again and again, and the ways back.

The guests are tiny; what they are given are scripts, sent and run as systems are.
"""

import os
import shlex
import signal
import subprocess
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from unittest.mock import Mock

import libvirt
import msgspec
import pytest
from editions import (
    KILLED,
    MIB,
    booted,
    content,
    read,
    run,
    run_script,
    write,
)
from killing import begun, end, moments
from live_once import FURNISH, Living, change_live
from program import Program
from relay import relayed
from waiting import eventually

from pyguixvm.commands.undefine import root_volumes
from pyguixvm.errors import HypervisorError, LostLockError, NotLiveError, RolledBackError
from pyguixvm.events import GuestOutput, Notice, PhaseFinished, ignore
from pyguixvm.hypervisor import console, domains
from pyguixvm.hypervisor.connection import connect
from pyguixvm.hypervisor.guest import boot_record, parcel_disk, program
from pyguixvm.hypervisor.observe import observe
from pyguixvm.hypervisor.refresh import refresh
from pyguixvm.model.volume_names import is_base, is_marker, is_parcel, parcel_volume
from pyguixvm.plan.drift import differences
from pyguixvm.xml.storage import parcel_disk_xml
from pyguixvm.xml.text import parse

LIVE = Path(__file__).with_name("live_once.py")


@pytest.fixture
def furnished(connection, edition):
    run(connection, edition("one").name, FURNISH)
    return edition


def in_steps(process, condition):
    """Have PROCESS go on bit by bit until CONDITION holds, and stand still then."""
    deadline = time.monotonic() + 60
    process.send_signal(signal.SIGSTOP)
    while not condition():
        assert time.monotonic() < deadline
        process.send_signal(signal.SIGCONT)
        time.sleep(0.02)
        process.send_signal(signal.SIGSTOP)


def system_of(connection, name):
    return run(connection, name, "cat /run/system")


def left_volumes(pool, connection):
    """Return the volumes of POOL beside bases."""
    handle = connection.handle.storagePoolLookupByName(pool.name)
    refresh(handle)
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
    # But for who tried.
    after = domains.read_metadata(connection, name)
    untold = msgspec.structs.replace(after.generation, deploy=before.generation.deploy)
    assert after.having(untold) == before
    run(connection, name, "mv /gnu/away /gnu/store")
    assert change_live(connection, furnished("three"), ignore, Living(tmp_path)).error is None
    assert system_of(connection, name) == "three"
    assert domains.read_metadata(connection, name).current == before.current


def until_heard(tries):
    """Return what a switch waits with until there is /run/heard; it fails after TRIES looks."""
    return f"""
        tries=0
        while [ ! -e /run/heard ]; do
            tries=$((tries + 1)); [ $tries -lt {tries} ] || exit 1; sleep 0.1
        done"""


def test_what_it_says_is_told_while_it_is_changed(connection, furnished, tmp_path):
    name = furnished("one").name
    # It does not end before somebody has heard it.
    switch = f"""
        printf 'it begins\n\033[31mred\033[0m' >&2
        {until_heard(100)}
        printf '\nand ends' >&2; printf two > /run/system; echo done"""
    told = []

    def tell(event):
        if isinstance(event, GuestOutput):
            told.append(event.line)
            if event.line == "it begins":
                run(connection, name, "touch /run/heard")

    assert change_live(connection, furnished("two"), tell, Living(tmp_path, switch)).error is None
    assert told == ["it begins", "\x1b[31mred\x1b[0m", "and ends"]
    # One log is kept at a time, however many changes there are.
    assert change_live(connection, furnished("three"), ignore, Living(tmp_path)).error is None
    assert len(run(connection, name, "ls /run | grep pyguixvm-log").split()) == 1


# What stands for kexec: the agent stops and comes again, and its guest writes what one that boots
# does, and has another boot_id.  What is in memory stays.
KEXEC = """
echo 1 > /run/loaded && mount -o bind /run/loaded /sys/kernel/kexec_loaded
cat /proc/sys/kernel/random/boot_id > /run/boot
mount -o bind /run/boot /proc/sys/kernel/random/boot_id
mkdir -p /run/current-system/profile/sbin
cat > /run/current-system/profile/sbin/reboot <<'END'
#!/bin/sh
[ "$*" = --kexec ] || exit 1
{ sleep 1
  echo begins >> /run/kexec
  while kill $(pidof qemu-ga); do sleep 1; done
  sleep 3
  echo "making '$(cat /run/system)' the current system..." > /dev/console
  cat /proc/sys/kernel/random/uuid > /run/boot
  qemu-ga -d -m virtio-serial -p /dev/vport*p1 -t /run
} < /dev/null > /dev/null 2>&1 &
END
chmod +x /run/current-system/profile/sbin/reboot
"""


def without(part):
    """Return what has the stand-in for kexec not do what PART names."""
    return f"sed -i '/{part}/d' /run/current-system/profile/sbin/reboot\n"


def powered_on(connection, name):
    """Return which QEMU runs the guest of NAME."""
    return connection.handle.lookupByName(name).ID()


def phases(told):
    return {each.phase: each.detail for each in told if isinstance(each, PhaseFinished)}


BOOTING = f"/gnu/store/{32 * '3'}-system"
BY_KEXEC = f"printf {BOOTING} > /run/system; echo restart kexec; echo done"


def test_what_only_a_boot_changes_is_booted_by_kexec(connection, furnished, tmp_path):
    name = furnished("one").name
    run(connection, name, KEXEC)
    boot, process = booted(connection, name), powered_on(connection, name)
    told = []
    activation = Living(tmp_path, BY_KEXEC)
    outcome = change_live(connection, furnished("two"), told.append, activation, restart=False)
    assert outcome.error is None
    assert any("pending until its restart" in getattr(each, "message", "") for each in told)
    assert run(connection, name, "cat /run/kexec || :") == ""

    outcome = change_live(connection, furnished("three"), told.append, activation)
    assert outcome.error is None
    assert "away for" in outcome.detail
    assert run(connection, name, "cat /run/kexec") == "begins\n"
    assert phases(told)["reboot"] == "by kexec"
    assert "stop" not in phases(told)
    assert powered_on(connection, name) == process
    assert booted(connection, name) != boot
    # It was listened to.
    live = connection.handle.lookupByName(name).XMLDesc(0)
    assert boot_record.remembered(parse(live)) == BOOTING
    assert domains.read_metadata(connection, name).fallback is None


def test_who_does_not_hear_what_is_booted_by_kexec_forgets_what_was_before(
    connection, furnished, tmp_path
):
    name = furnished("one").name
    run(connection, name, KEXEC)
    handle = connection.handle.lookupByName(name)
    boot_record.remember(handle, lambda: (f"making '{BOOTING}' the current system...",))
    assert boot_record.remembered(parse(handle.XMLDesc(0))) == BOOTING
    # Somebody else sees what it writes.
    with console.record(connection, name):
        outcome = change_live(connection, furnished("two"), ignore, Living(tmp_path, BY_KEXEC))
        assert outcome.error is None
    assert boot_record.remembered(parse(handle.XMLDesc(0))) is None


def test_an_agent_that_comes_again_is_no_boot(connection, furnished, tmp_path):
    name = furnished("one").name
    run(connection, name, KEXEC + without("random"))
    process = powered_on(connection, name)
    told = []
    machine = msgspec.structs.replace(furnished("two"), ready_timeout=15)
    outcome = change_live(connection, machine, told.append, Living(tmp_path, BY_KEXEC))
    assert isinstance(outcome.error, RolledBackError)
    assert "another boot" in outcome.error.message
    assert phases(told)["reboot"] == "by kexec"
    assert powered_on(connection, name) != process


def test_what_does_not_come_up_by_kexec_is_taken_back(connection, furnished, tmp_path):
    name = furnished("one").name
    run(connection, name, KEXEC + without("qemu-ga -d"))
    boot = booted(connection, name)
    write(connection, name, "before")
    switch = "printf broken | dd of=/dev/vda conv=notrunc,fsync; echo restart kexec; echo done"
    machine = msgspec.structs.replace(furnished("two"), ready_timeout=10)
    outcome = change_live(connection, machine, ignore, Living(tmp_path, switch))
    assert isinstance(outcome.error, RolledBackError)
    assert booted(connection, name) != boot
    assert read(connection, name) == "before"


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("umount /sys/kernel/kexec_loaded", "nothing was loaded"),
        ("mv /run/current-system/profile/bin/sh /run", "does not take that"),
        (
            "umount /proc/sys/kernel/random/boot_id; mount -o bind /dev/null \\\n"
            "/proc/sys/kernel/random/boot_id",
            "which boot",
        ),
    ],
)
def test_what_cannot_be_booted_by_kexec_is_stopped_and_started(
    connection, furnished, tmp_path, script, why
):
    name = furnished("one").name
    run(connection, name, KEXEC)
    boot = booted(connection, name)
    told = []
    outcome = change_live(
        connection,
        furnished("two"),
        told.append,
        Living(tmp_path, f"{script}; echo restart kexec; echo done"),
    )
    assert outcome.error is None
    assert why in phases(told)["reboot"]
    assert "stop" in phases(told)
    assert booted(connection, name) != boot


def test_of_what_is_very_long_a_part_is_told(connection, furnished, tmp_path):
    switch = """
        dd if=/dev/zero bs=64k count=100 status=none | tr '\\0' x >&2
        i=0; while [ $i -lt 50 ]; do echo; i=$((i + 1)); done >&2
        echo the last words >&2
        exit 1"""
    told = []

    def tell(event):
        if isinstance(event, GuestOutput):
            told.append(event.line)

    outcome = change_live(connection, furnished("two"), tell, Living(tmp_path, switch))
    assert isinstance(outcome.error, RolledBackError)
    assert "the last words" in outcome.error.message
    assert max(map(len, told)) <= 1000
    assert len(told) <= 2


def test_an_agent_that_is_gone_for_good_is_not_waited_for(
    connection, furnished, tmp_path, monkeypatch
):
    monkeypatch.setattr(program, "_AWAY_SECONDS", 2)
    name = furnished("one").name
    write(connection, name, "before")
    switch = "kill $(pidof qemu-ga); printf broken | dd of=/dev/vda conv=notrunc,fsync; sleep 600"
    since = time.monotonic()
    outcome = change_live(connection, furnished("two"), ignore, Living(tmp_path, switch))
    assert time.monotonic() - since < 300
    assert isinstance(outcome.error, RolledBackError)
    assert "does not say what became of its change" in outcome.error.message
    assert read(connection, name) == "before"


def test_what_a_guest_has_no_room_for_leaves_it_the_room_it_had(
    connection, furnished, pool, tmp_path
):
    name = furnished("one").name
    run(connection, name, "mount -t tmpfs -o size=4m none /gnu/store")
    boot, before = booted(connection, name), domains.read_metadata(connection, name)
    large = Living(tmp_path, size=8 * MIB)
    outcome = change_live(connection, furnished("two"), ignore, large)
    assert isinstance(outcome.error, NotLiveError)
    assert "room" in outcome.error.hint
    assert run(connection, name, "ls -A /gnu/store") == ""
    assert booted(connection, name) == boot
    # What runs is what there was; it has a volume of its own by now.
    after = domains.read_metadata(connection, name)
    assert after.generation.system == before.generation.system
    assert not after.generation.changing
    assert change_live(connection, furnished("three"), ignore, Living(tmp_path)).error is None
    assert system_of(connection, name) == "three"


# As much as a tiny guest has room for, twice.
LARGE = 20 * MIB


def attached(connection, name):
    live = observe(connection).domains[name].live
    return [Path(disk).name for disk in live.disks]


def test_what_is_large_comes_as_a_disk_and_goes_again(connection, furnished, pool, tmp_path):
    name = furnished("one").name
    before = domains.inactive_xml(connection, name)
    # The size of what is there, and of which disk it came.
    switch = """
        printf "$(wc -c < "$0") $(cat /sys/block/*/serial | grep -c parcel)" > /run/system
        [ ! -e /run/pyguixvm-parcel ] || exit 1
        echo done"""
    outcome = change_live(
        connection, furnished("two"), ignore, Living(tmp_path, switch, size=LARGE)
    )
    assert outcome.error is None
    size, disks = system_of(connection, name).split()
    assert (int(size) > LARGE, disks) == (True, "1")
    assert run(connection, name, "cat /sys/block/*/serial").strip() == ""
    metadata = domains.read_metadata(connection, name)
    assert left_volumes(pool, connection) == {volume for _, volume in root_volumes(metadata)}
    after = domains.inactive_xml(connection, name)
    assert "parcel" not in after
    assert before.count("<disk") == after.count("<disk")
    # It is another one each time.
    again = Living(tmp_path, switch, size=LARGE)
    assert change_live(connection, furnished("three"), ignore, again).error is None


def test_whose_machine_it_is_no_more_sends_nothing(connection, furnished, tmp_path, monkeypatch):
    name = furnished("one").name

    def plugged(*_arguments):
        raise LostLockError(f"'{name}' is another one's")

    monkeypatch.setattr(parcel_disk, "plugged", plugged)
    outcome = change_live(connection, furnished("two"), ignore, Living(tmp_path, size=LARGE))
    assert isinstance(outcome.error, LostLockError)
    assert run(connection, name, "ls -A /gnu/store /run | grep -e switch -e parcel || :") == ""


def test_without_a_port_for_a_disk_the_agent_brings_it(connection, furnished, tmp_path, pool):
    name = furnished("one").name
    handle = connection.handle.lookupByName(name)
    taken = []
    with suppress(libvirt.libvirtError):
        for number in range(40):
            file = Path(pool.path) / f"taken-{number}.raw"
            file.touch()
            os.truncate(file, MIB)
            element = parcel_disk_xml(str(file), f"taken-{number}").replace(
                "vdzz", f"vdy{chr(97 + number)}"
            )
            handle.attachDeviceFlags(element, libvirt.VIR_DOMAIN_AFFECT_LIVE)
            taken.append(element)
    assert taken
    told = []
    outcome = change_live(connection, furnished("two"), told.append, Living(tmp_path, size=3 * MIB))
    assert outcome.error is None
    assert any("through its agent" in e.message for e in told if isinstance(e, Notice))
    assert system_of(connection, name) == "two"
    assert not any(is_parcel(volume) for volume in left_volumes(pool, connection))


@pytest.mark.parametrize("moment", ["sent", "plugged", "unpacked"])
def test_a_large_change_that_is_killed_leaves_nothing_for_long(
    connection, furnished, pool, tmp_path, moment
):
    name = furnished("one").name
    machine = furnished("two")
    document = msgspec.json.encode(machine).decode()
    begun = Program(LIVE, document, "never", tmp_path, "true", LIVE_SIZE=str(LARGE))
    has_come = {
        "sent": lambda: parcel_volume(name) in left_volumes(pool, connection),
        "plugged": lambda: parcel_volume(name) in attached(connection, name),
        "unpacked": lambda: "-switch" in run(connection, name, "ls /gnu/store"),
    }
    for each, condition in has_come.items():
        in_steps(begun, condition)
        if each == moment:
            break
    begun.send_signal(signal.SIGKILL)
    assert begun.wait() == -signal.SIGKILL
    assert parcel_volume(name) in left_volumes(pool, connection)
    outcome = change_live(connection, furnished("two"), ignore, Living(tmp_path))
    assert outcome.error is None
    assert system_of(connection, name) == "two"
    assert parcel_volume(name) not in attached(connection, name)
    metadata = domains.read_metadata(connection, name)
    assert left_volumes(pool, connection) == {volume for _, volume in root_volumes(metadata)}


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


def test_what_a_guest_says_to_lack_that_is_not_for_it_stays_here(connection, furnished, tmp_path):
    name = furnished("one").name
    theirs = ("/gnu/store/00000000000000000000000000000000-of-another", "/etc/shadow", "../x")
    shell = "/run/current-system/profile/bin/sh"
    # What unpacks is the guest's own shell.
    said = "".join(f"missing {each}\\n" for each in theirs)
    lies = f"#!/bin/sh\nprintf '{said}'; exit 75\n"
    run(connection, name, f"rm {shell}; printf %s {shlex.quote(lies)} > {shell}; chmod +x {shell}")
    outcome = change_live(connection, furnished("two"), ignore, Living(tmp_path), asked := Mock())
    assert asked.mock_calls == []
    assert isinstance(outcome.error, NotLiveError)
    assert "did not take what it lacks" in outcome.error.message


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


def test_what_was_changed_and_could_not_be_noted_counts_as_begun(connection, furnished, tmp_path):
    name = furnished("one").name
    assert change_live(connection, furnished("two"), ignore, Living(tmp_path)).error is None
    before = domains.read_metadata(connection, name).current
    refused = []

    def require(_machine):
        """Fail once, as where a line was silent, when the guest has been changed."""
        if not refused and system_of(connection, name) == "three":
            refused.append(name)
            raise HypervisorError("nobody answers")

    living = Living(tmp_path)
    outcome = change_live(connection, furnished("three"), ignore, living, kept={"require": require})
    assert outcome.error.message == "nobody answers"
    assert refused == [name]
    assert system_of(connection, name) == "three"
    assert domains.read_metadata(connection, name).generation.changing
    # To be as before is a change, too.
    outcome = change_live(connection, furnished("two"), ignore, Living(tmp_path))
    assert outcome.error is None
    assert system_of(connection, name) == "two"
    after = domains.read_metadata(connection, name)
    assert (after.current, after.fallback) == (before, None)
    assert not after.generation.changing


def test_a_line_that_falls_silent_is_no_word_of_the_guest(connection, furnished, tmp_path):
    name = furnished("one").name
    switch = f"""
        echo 'it begins' >&2
        {until_heard(300)}
        printf two > /run/system; echo done"""
    socket = tmp_path / "line"
    with ExitStack() as opened:
        lines = [opened.enter_context(relayed(socket, later=0, rate=0))]

        def tell(event):
            if isinstance(event, GuestOutput) and event.line == "it begins":
                lines[0].fall_silent()
                socket.unlink()
                lines.append(opened.enter_context(relayed(socket, later=0, rate=0)))
                run(connection, name, "touch /run/heard")

        there = opened.enter_context(connect(lines[0].uri, patience=2))
        outcome = change_live(there, furnished("two"), tell, Living(tmp_path, switch))
    assert outcome.error is None, outcome.error.message
    assert len(lines) == 2
    assert system_of(connection, name) == "two"
    assert not domains.read_metadata(connection, name).generation.changing


def pulled(connection, name):
    connection.handle.lookupByName(name).destroy()


def pushed(connection, name):
    connection.handle.lookupByName(name).reset()


def started_again(connection, name):
    """Have the guest of NAME run, and have what it lacks after a boot."""
    if domains.state(connection, name) != "running":
        domains.start(connection, name)

    def answers():
        with suppress(libvirt.libvirtError, AssertionError):
            return bool(run(connection, name, FURNISH + "echo here"))
        return False

    eventually(answers)


@pytest.mark.parametrize("done", [pulled, pushed])
def test_a_guest_that_goes_away_at_any_moment_is_changed_by_the_next(
    connection, furnished, pool, tmp_path, done
):
    name = furnished("one").name

    def start(machine):
        document = msgspec.json.encode(machine).decode()
        return begun(LIVE, document, "never", tmp_path)

    write(connection, name, "before")
    since = time.monotonic()
    end(start(furnished("measured")))
    for number, moment in enumerate(moments(time.monotonic() - since)):
        process = start(furnished(f"edition-{number}"))
        with suppress(subprocess.TimeoutExpired):
            process.wait(moment)
        with suppress(libvirt.libvirtError):
            done(connection, name)
        _, errors = process.communicate(timeout=300)
        # It is an error that somebody understands, if it is one.
        assert "Traceback" not in errors
        started_again(connection, name)
        machine = furnished(f"then-{number}")
        outcome = change_live(connection, machine, ignore, Living(tmp_path))
        assert outcome.error is None, outcome.error
        assert system_of(connection, name) == f"then-{number}"
        observed = observe(connection).domains[name]
        assert differences(machine, observed) == ()
        assert observed.metadata.fallback is None
        assert read(connection, name) == "before"
        left = left_volumes(pool, connection)
        assert left == {volume for _, volume in root_volumes(observed.metadata)}
