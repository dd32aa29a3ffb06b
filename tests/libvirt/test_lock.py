# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine is changed by one at a time, whoever stops, dies, or lives elsewhere."""

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from pyguixvm.commands import garbage, power, rollback, undefine
from pyguixvm.commands import volumes as volumes_of
from pyguixvm.commands.session import Session
from pyguixvm.errors import LostLockError, PyguixvmError
from pyguixvm.events import Notice, ignore
from pyguixvm.hypervisor import domains, volumes
from pyguixvm.hypervisor.connection import connect
from pyguixvm.hypervisor.machine_lock import secret
from pyguixvm.hypervisor.machine_lock.holder import has_died, myself
from pyguixvm.hypervisor.machine_lock.lock import beating, held, holder, holders
from pyguixvm.hypervisor.machine_lock.wait import Tempo
from pyguixvm.model.listed import ListedVolume
from pyguixvm.plan.garbage import Garbage
from pyguixvm.plan.plan import Policy
from pyguixvm.xml.volume import VolumeDefinition

SYSTEM = "qemu:///system"
ONCE = Path(__file__).with_name("lock_once.py")
RESTARTED = Path(__file__).with_name("restart-libvirtd")
QUICK = Tempo(beat=0.1, look=0.05, patience=1.5)
NUMBERS = itertools.count(1)


class EnoughError(Exception):
    """Waited for long enough to know."""


def looks(number):
    """Return what sleeps as a waiter does, NUMBER times, and ends its waiting then."""
    left = itertools.count(number, -1)

    def sleep(seconds):
        if next(left) == 0:
            raise EnoughError
        time.sleep(seconds)

    return sleep


# In so many looks, one that is silent is robbed twice.
LONG = int(2 * QUICK.patience / QUICK.look)


@pytest.fixture
def name(connection):
    """The name of a machine that nobody has; its lock goes at the end, whoever holds it."""
    made = f"test{os.getpid()}-lock-{next(NUMBERS)}"
    yield made
    with connect(SYSTEM) as last:
        found = secret.find(last, made)
        if found:
            secret.remove(last, found.token)


@pytest.fixture
def hold(name, tmp_path):
    """Start a process that holds the lock; it ends with the test."""
    with contextlib.ExitStack() as ended:

        def start(*before, file=tmp_path / "file"):
            tempo = (str(QUICK.beat), str(QUICK.look), str(QUICK.patience))
            process = ended.enter_context(
                subprocess.Popen(
                    [*before, sys.executable, ONCE, "hold", name, *tempo, file],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            ended.callback(process.kill)
            assert process.stdout.readline() == "held\n", process.stderr.read()
            return process

        yield start


def is_held_by_another(connection, name):
    """Whether who waits for long does not get the lock."""
    try:
        with held(connection, [name], ignore, "deploy", QUICK, looks(LONG)):
            return False
    except EnoughError:
        return True


def write(process, line):
    """Have PROCESS do a step; return what it says."""
    process.stdin.write(line)
    process.stdin.flush()
    return process.stdout.readline()


def left_by_the_dead(connection, name, **fields):
    """Leave the lock of a process that is not there any more."""
    with subprocess.Popen(["true"]) as ended:
        pass
    other = msgspec.structs.replace(myself("deploy"), process=ended.pid, **fields)
    secret.define(connection, name, str(uuid.uuid4()), other)
    return other


def test_processes_and_threads_take_turns(name, tmp_path):
    counter = tmp_path / "counter"
    counter.write_text("0")
    command = [sys.executable, ONCE, "count", name, "15", counter]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0, 0]
    assert counter.read_text() == "90"


def test_of_two_at_once_the_second_waits_and_says_once_for_whom(connection, name):
    order, told = [], []

    def second():
        with connect(SYSTEM) as another, held(another, [name], told.append, "start", QUICK):
            order.append("second")

    with held(connection, [name], ignore, "deploy", QUICK):
        assert holder(connection, name).verb == "deploy"
        waiter = threading.Thread(target=second)
        waiter.start()
        while not told:
            time.sleep(0.01)
        # As long as it would take to rob one that is silent.
        assert is_held_by_another(connection, name)
        order.append("first")
    waiter.join(timeout=60)
    assert order == ["first", "second"]
    assert [event.message for event in told] == [
        f"waiting: it is being changed by {msgspec.structs.replace(myself('deploy'), since='')}"
        + told[0].message.rpartition(" ")[2]
    ]
    assert holder(connection, name) is None


def test_a_lock_is_let_go_of_when_the_work_fails(connection, name):
    with pytest.raises(ZeroDivisionError), held(connection, [name], ignore, "deploy"):
        raise ZeroDivisionError
    assert secret.find(connection, name) is None


def test_who_is_interrupted_leaves_no_lock(connection, name, hold):
    process = hold()
    process.send_signal(signal.SIGINT)
    process.wait(timeout=60)
    assert secret.find(connection, name) is None


def test_who_waits_can_be_interrupted(connection, name):
    def interrupt(_seconds):
        raise KeyboardInterrupt

    with held(connection, [name], ignore, "deploy") as lock, connect(SYSTEM) as another:
        with (
            pytest.raises(KeyboardInterrupt),
            held(another, [name], ignore, "start", sleep=interrupt),
        ):
            pass
        lock.require(name)
    assert secret.find(connection, name) is None


def test_a_holder_of_this_host_that_was_killed_is_not_waited_for(connection, name, hold):
    process = hold()
    assert holder(connection, name).process == process.pid
    process.kill()
    # Whether or not its parent has asked how it ended.
    while not has_died(secret.find(connection, name).holder):
        time.sleep(0.01)
    assert holder(connection, name) is None
    told = []
    with held(connection, [name], told.append, "deploy", sleep=looks(0)) as lock:
        lock.require(name)
    assert told == []


def test_a_holder_that_was_stopped_finds_its_lock_lost_and_stops(connection, name, hold, tmp_path):
    process = hold()
    assert write(process, "before\n") == "written\n"
    process.send_signal(signal.SIGSTOP)
    told = []
    with held(connection, [name], told.append, "deploy", QUICK) as lock:
        (tmp_path / "file").write_text("by the second\n")
        process.send_signal(signal.SIGCONT)
        assert write(process, "by the first\n") == ""
        assert process.wait(timeout=60) == 1
        error = process.stderr.read()
        assert error.startswith("LostLockError: ")
        assert f"it is being changed by {holder(connection, name)}" in error
        # It let go of nothing that is ours.
        lock.require(name)
    assert (tmp_path / "file").read_text() == "by the second\n"
    assert told[-1].message.startswith("taken over from ")


def test_a_holder_that_was_stopped_for_all_of_the_others_work_stops(
    connection, name, hold, tmp_path
):
    process = hold()
    process.send_signal(signal.SIGSTOP)
    with held(connection, [name], ignore, "deploy", QUICK):
        pass
    process.send_signal(signal.SIGCONT)
    assert write(process, "by the first\n") == ""
    assert "nobody changes it now" in process.stderr.read()
    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize(
    "other",
    [
        ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc"),
        ("unshare", "--pid", "--fork", "--kill-child"),
        # There, processes seem to have been started at another time.
        ("unshare", "--time", "--boottime", "100000", "--fork", "--kill-child"),
    ],
    ids=["pid-with-proc", "pid", "time"],
)
def test_a_holder_in_another_namespace_is_not_robbed_while_it_lives(
    connection, name, hold, other, tmp_path
):
    process = hold(*other)
    assert is_held_by_another(connection, name)
    assert write(process, "first\n") == "written\n"
    # Nor does one there rob us, or itself.
    program = (
        "from pyguixvm.hypervisor.machine_lock.holder import has_died, myself, Holder\n"
        "import msgspec, sys\n"
        "assert not has_died(myself('deploy'))\n"
        "assert not has_died(msgspec.json.decode(sys.argv[1], type=Holder))\n"
    )
    here = msgspec.json.encode(msgspec.structs.replace(myself("deploy"), process=2**22 - 1))
    subprocess.run([*other, sys.executable, "-c", program, here], check=True)


def test_where_proc_shows_others_numbers_it_is_not_believed():
    program = (
        "from pyguixvm.hypervisor.machine_lock.holder import myself\n"
        "assert myself('deploy').start_time is None\n"
    )
    strange = ("unshare", "--pid", "--fork", "--kill-child")
    subprocess.run([*strange, sys.executable, "-c", program], check=True)
    assert myself("deploy").start_time is not None


def test_another_host_of_the_same_name_is_not_robbed_before_it_was_silent(connection, name):
    left_by_the_dead(connection, name, boot="another")
    enough = int(QUICK.patience / QUICK.look)
    with (
        pytest.raises(EnoughError),
        held(connection, [name], ignore, "deploy", QUICK, looks(enough - 1)),
    ):
        pass
    with held(connection, [name], ignore, "deploy", QUICK):
        pass


@pytest.mark.parametrize(
    ("fields", "times"), [({}, 50), ({"boot": "another"}, 15)], ids=["known", "silent"]
)
def test_two_that_wait_for_a_dead_one_never_both_hold(connection, name, fields, times):
    # With less patience, who is alive on a busy machine would count as dead.
    tempo = Tempo(beat=0.05, look=0.02, patience=0.5)
    inside, most, failed = [], [], []

    def work():
        try:
            with connect(SYSTEM) as own, held(own, [name], ignore, "deploy", tempo) as lock:
                inside.append(1)
                most.append(len(inside))
                lock.require(name)
                inside.pop()
        except PyguixvmError as error:
            failed.append(error)

    for _ in range(times):
        left_by_the_dead(connection, name, **fields)
        waiters = [threading.Thread(target=work) for _ in range(2)]
        for waiter in waiters:
            waiter.start()
        for waiter in waiters:
            waiter.join(timeout=60)
    assert failed == []
    assert most == [1] * (2 * times)


def test_who_concluded_late_that_one_died_does_not_rob_the_next(connection, name):
    tempo = Tempo(beat=0.1, look=0.01, patience=0.05)
    left_by_the_dead(connection, name, boot="another")
    # The first look has nothing to compare with.
    last = itertools.count(int(tempo.patience / tempo.look), -1)
    with contextlib.ExitStack() as held_by_the_next:
        locks = []

        def sleep(_seconds):
            left = next(last)
            if left == 0:
                with_less = Tempo(beat=0.1, look=0.001, patience=0.002)
                next_one = held(connection, [name], ignore, "deploy", with_less)
                locks.append(held_by_the_next.enter_context(next_one))
            if left < 0:  # it waits for the next
                raise EnoughError

        with (
            connect(SYSTEM) as another,
            pytest.raises(EnoughError),
            held(another, [name], ignore, "deploy", tempo, sleep),
        ):
            pass
        locks[0].require(name)


def test_two_that_want_the_same_machines_do_not_wait_for_each_other(connection):
    machines = [f"test{os.getpid()}-lock-{end}" for end in "ab"]
    done = []

    def work(order):
        with connect(SYSTEM) as own:
            for _ in range(20):
                with held(own, order, ignore, "deploy", Tempo(look=0.005)) as lock:
                    for machine in machines:
                        lock.require(machine)
                done.append(order)

    workers = [
        threading.Thread(target=work, args=(o,), daemon=True) for o in (machines, machines[::-1])
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
    assert len(done) == 40
    assert not set(machines) & set(holders(connection))


def test_a_lock_survives_libvirtd(name, hold):
    process = hold()
    subprocess.run([RESTARTED], check=True)
    with connect(SYSTEM) as connection:
        # Its beats found the new one.
        assert is_held_by_another(connection, name)
        assert holder(connection, name).process == process.pid
        process.stdin.close()
        process.wait(timeout=60)
        assert secret.find(connection, name) is None


def test_beats_that_do_not_arrive_are_noticed_before_the_next_step(connection, name):
    # As after a sleep of the whole computer: the lock is there, and about to be taken over.
    tempo = Tempo(beat=60, look=0.05, patience=0.1)
    with held(connection, [name], ignore, "deploy", tempo) as lock:
        token = secret.find(connection, name).token
        time.sleep(tempo.patience)
        assert secret.value(connection, token) == b""
        lock.require(name)
        # It holds for as long as others have patience again.
        assert secret.value(connection, token) != b""


class SlowLine:
    """A way to libvirtd on which all connections share a few bytes per second."""

    def __init__(self, path, rate):
        self.rate = rate
        self.turn = threading.Lock()
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(path))
        self.server.listen()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.server.accept()
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                there = socket.socket(socket.AF_UNIX)
                there.connect("/run/libvirt/libvirt-sock")
                threading.Thread(target=self.copy, args=(client, there), daemon=True).start()
                threading.Thread(target=self.copy, args=(there, client), daemon=True).start()

    def copy(self, source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(1024):
                with self.turn:
                    time.sleep(len(data) / self.rate)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


def test_beats_arrive_while_an_upload_fills_a_slow_line(connection, pool, name, tmp_path):
    line = SlowLine(tmp_path / "socket", rate=60_000)
    uri = f"qemu+unix:///system?socket={tmp_path / 'socket'}"
    volume = connection.handle.storagePoolLookupByName(pool.name).createXML(
        "<volume><name>pyguixvm-slow</name><capacity>1000000</capacity></volume>"
    )
    with connect(uri) as slow, held(slow, [name], ignore, "deploy", QUICK) as lock:
        busy = threading.Event()

        def upload():
            handle = slow.handle.storageVolLookupByPath(volume.path())
            stream = slow.handle.newStream(0)
            handle.upload(stream, 0, 360_000, 0)
            busy.set()
            for _ in range(36):
                stream.send(bytes(10_000))
            stream.finish()
            busy.clear()

        work = threading.Thread(target=upload)
        work.start()
        busy.wait()
        assert is_held_by_another(connection, name)
        assert busy.is_set()
        work.join(timeout=60)
        lock.require(name)
    line.server.close()


def test_names_need_not_be_plain(connection, name):
    odd = f"{name} <a & \"b\" 'c'>"
    with held(connection, [odd], ignore, "deploy") as lock:
        lock.require(odd)
        assert holders(connection)[odd] == holder(connection, odd)
        assert holder(connection, name) is None
    assert odd not in holders(connection)


def test_a_lock_that_tells_nothing_is_waited_for_all_the_same(connection, name):
    connection.handle.secretDefineXML(
        "<secret ephemeral='no' private='no'><description>{}</description>"
        f"<usage type='ceph'><name>pyguixvm lock {name}</name></usage></secret>"
    )
    told = []
    with held(connection, [name], told.append, "deploy", QUICK):
        assert told[0].message == "waiting: it is being changed by somebody"


def test_what_holders_say_of_themselves_does_not_reach_the_terminal_raw(connection, name):
    left_by_the_dead(connection, name, boot="another", user="\x1b[2Jme", host="h" * 1000)
    told = []
    with held(connection, [name], told.append, "deploy", QUICK):
        assert told[0].message.isprintable()
        assert len(told[0].message) < 300


def test_a_lock_that_somebody_removed_is_lost(connection, name):
    with held(connection, [name], ignore, "deploy") as lock:
        secret.remove(connection, secret.find(connection, name).token)
        with pytest.raises(LostLockError, match="nobody changes it now"):
            lock.require(name)


def test_libvirts_driver_for_tests_needs_no_lock():
    with connect("test:///default") as driver, held(driver, ["web"], ignore, "deploy") as lock:
        lock.require("web")
        assert holder(driver, "web") is None
        assert holders(driver) == {}


def test_those_who_hold_locks_side_by_side_share_their_beats(connection, name):
    """One connection beats for all of them, and for none that was let go of."""
    names = [f"{name}-{end}" for end in "ab"]
    with (
        beating(connection, QUICK) as beats,
        held(connection, names[:1], ignore, "deploy", QUICK, beats=beats),
    ):
        with held(connection, names[1:], ignore, "deploy", QUICK, beats=beats) as lock:
            tokens = [secret.find(connection, each).token for each in names]
            for token in tokens:
                seen = secret.value(connection, token)
                while secret.value(connection, token) == seen:
                    time.sleep(QUICK.look)
            lock.require(names[1])
            (thread,) = (t for t in threading.enumerate() if t.name == "lock")
        assert names[1] not in holders(connection)
        assert secret.find(connection, names[0]).token == tokens[0]
    thread.join(10)
    assert not thread.is_alive()


def data_of(name):
    return ListedVolume(
        pool="p", volume=f"pyguixvm-{name}.db.qcow2", machine=name, disk="db", uuid=None,
        deployment=None, size=None, allocation=None, file_system=None, state="kept", detail=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    "verb",
    [
        lambda here, name: power.start(here, [name]),
        lambda here, name: power.shutdown(here, [name], 1),
        lambda here, name: power.reboot(here, [name], 1),
        lambda here, name: power.destroy(here, [name], unprotect=False),
        lambda here, name: power.autostart(here, [name], on=True),
        lambda here, name: undefine.undefine(
            here, undefine.removals(here, [name], keep_volumes=False)
        ),
        lambda here, name: rollback.roll_back(here, name, None, Policy(force=True, unprotect=True)),
        lambda here, name: garbage.collect(
            here, keep=0, older_than=timedelta(), agreed=Garbage(((name, 1),), ())
        ),
        lambda here, name: garbage.collect(
            here, keep=0, older_than=timedelta(), agreed=Garbage((), (), (), (f"{name}-test",))
        ),
        lambda here, name: volumes_of.delete(here, [data_of(name)]),
        lambda here, name: volumes_of.adopt(here, [data_of(name)]),
        lambda here, name: volumes_of.forget(here, [data_of(name)]),
    ],
    ids=[
        "start", "shutdown", "reboot", "destroy", "autostart", "undefine", "rollback", "gc",
        "gc of a copy", "volumes delete", "volumes adopt", "volumes forget",
    ],
)  # fmt: skip
def test_every_verb_that_changes_a_machine_waits(connection, defined, a_machine, verb):
    name = defined(a_machine())
    # What is refused anyway does not wait: there is a generation to return to.
    metadata = domains.read_metadata(connection, name)
    second = msgspec.structs.replace(metadata.generation, number=2)
    two = msgspec.structs.replace(metadata.having(second), current=2)
    domains.write_metadata(connection, name, two)
    before = connection.handle.lookupByName(name).XMLDesc(0)

    def emit(event):
        if isinstance(event, Notice) and event.message.startswith("waiting: "):
            raise EnoughError

    here = Session(SYSTEM, (), {}, emit, sys.stderr.write)
    with held(connection, [name], ignore, "deploy") as lock:
        with pytest.raises(EnoughError):
            verb(here, name)
        lock.require(name)
    assert connection.handle.lookupByName(name).XMLDesc(0) == before
    assert not connection.handle.lookupByName(name).autostart()


def test_what_was_changed_since_one_agreed_is_not_removed(connection, defined, a_machine):
    name = defined(a_machine())
    here = Session(SYSTEM, (), {}, ignore, sys.stderr.write)
    agreed = undefine.removals(here, [name], keep_volumes=False)
    metadata = domains.read_metadata(connection, name)
    second = msgspec.structs.replace(metadata.generation, number=2, volume="w")
    domains.write_metadata(connection, name, metadata.having(second))
    with pytest.raises(PyguixvmError, match="changed by somebody else meanwhile"):
        undefine.undefine(here, agreed)
    assert domains.exists(connection, name)


def test_locks_of_earlier_versions_go_once(connection, pool, name):
    former = f"pyguixvm-{name}.lock"
    volumes.create(connection, pool.name, VolumeDefinition(name=former, capacity=4096))
    here = Session(SYSTEM, (), {}, ignore, sys.stderr.write)
    found = garbage.unneeded(here, keep=100, older_than=timedelta(days=1000))
    ours = tuple(volume for volume in found.volumes if volume.name == former)
    agreed = Garbage((), ours)
    gone = garbage.collect(here, keep=100, older_than=timedelta(days=1000), agreed=agreed)
    assert gone == agreed
    assert volumes.lookup(connection, pool.name, former) is None
