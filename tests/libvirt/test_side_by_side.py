# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines are changed side by side, each under its own lock, and one's trouble is its own."""

import json
import socket
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest
from boot_sector import halting
from deploying import MIB, take_away, with_image
from program import ran

from pyguixvm.cli import declaration
from pyguixvm.cli.app import main
from pyguixvm.commands import deploy as deploying
from pyguixvm.commands.planning import observed
from pyguixvm.commands.session import Session
from pyguixvm.events import PhaseFinished, PhaseStarted, ignore
from pyguixvm.hypervisor import domains
from pyguixvm.hypervisor.machine_lock.lock import held, holders
from pyguixvm.model.declaration import ConsoleReady, DataDisk, Deployment
from pyguixvm.model.volume_names import is_marker

SYSTEM = "qemu:///system"
ONCE = Path(__file__).with_name("deploy_once.py")


@pytest.fixture
def machines(connection, a_machine, pool, tmp_path):
    """Declare machines that say a word and halt, each with an image of its own."""
    declared = []

    def declare(number, image=None, **fields):
        made = []
        for _ in range(number):
            file = image or tmp_path / f"image-{len(declared)}.raw"
            file.write_bytes(halting())
            machine = a_machine(**{"ready": (ConsoleReady("up"),), "pool": pool.name} | fields)
            declared.append(with_image(machine, file))
            made.append(declared[-1])
        return made

    yield declare
    take_away(*(machine.name for machine in declared))


def session(emit=ignore, uri=SYSTEM):
    return Session(uri, (), {"PYGUIXVM_VIRT_TYPE": "qemu"}, emit, sys.stderr.write)


def deploy(machines, emit=ignore, jobs=4, **fields):
    """Deploy MACHINES; return what became of each, by name."""
    here = session(emit)
    with observed(here, machines, **fields) as planned:
        done = deploying.deploy(here, Path("/src/config.scm"), planned, jobs=jobs)
    assert [outcome.machine for outcome in done] == [
        each.machine.name for sight in planned for each in sight.plan.machines
    ]
    return {outcome.machine: outcome for outcome in done}


class Meeting:
    """Has those who tell of EVENT go on only when NUMBER of them are there."""

    def __init__(self, event, phase, number):
        self._event, self._phase = event, phase
        self._barrier = threading.Barrier(number, timeout=60)

    def __call__(self, event):
        if isinstance(event, self._event) and event.phase == self._phase and event.machine:
            self._barrier.wait()


@pytest.mark.parametrize(
    ("event", "phase"),
    [
        (PhaseFinished, "grow"),
        (PhaseStarted, "define"),
        (PhaseStarted, "ready"),
    ],
)
def test_each_part_is_done_for_several_at_once(connection, machines, event, phase):
    three = machines(3)
    done = deploy(three, Meeting(event, phase, 3))
    assert {outcome.outcome for outcome in done.values()} == {"deployed"}
    for machine in three:
        assert domains.state(connection, machine.name) == "running"
    assert not holders(connection).keys() & done.keys()


@pytest.mark.parametrize("jobs", [1, 2])
def test_no_more_are_prepared_at_once_than_allowed(machines, jobs):
    busy, most = set(), []

    def emit(event):
        phase = getattr(event, "phase", None)
        if isinstance(event, PhaseStarted) and phase == "grow":
            busy.add(event.machine)
            most.append(len(busy))
        elif (isinstance(event, PhaseFinished) and phase == "transfer" and event.machine) or (
            isinstance(event, PhaseStarted) and phase == "define"
        ):
            busy.discard(event.machine)

    done = deploy(machines(4), emit, jobs=jobs)
    assert {outcome.outcome for outcome in done.values()} == {"deployed"}
    assert max(most) == jobs


def test_who_waits_for_a_guest_holds_no_place(machines):
    """A guest that is never ready does not keep the next one from being prepared."""
    (mute,), (sound,) = machines(1, ready=(ConsoleReady("never"),)), machines(1)
    mute = msgspec.structs.replace(mute, ready_timeout=2)
    ready = threading.Event()

    def emit(event):
        if getattr(event, "phase", None) == "ready":
            if isinstance(event, PhaseFinished):
                ready.set()
            elif event.machine == mute.name:
                assert ready.wait(60)

    done = deploy([mute, sound], emit, jobs=1)
    assert done[mute.name].status == 7
    assert done[sound.name].outcome == "deployed"


def test_one_image_of_several_is_sent_once(connection, machines, pool, tmp_path):
    sent = []

    def emit(event):
        if isinstance(event, PhaseFinished) and event.phase == "transfer":
            sent.append(event.detail)

    done = deploy(machines(4, image=tmp_path / "image.raw"), emit)
    assert [outcome.error for outcome in done.values()] == [None] * 4
    assert sum("base volume" in detail for detail in sent) == 1
    handle = connection.handle.storagePoolLookupByName(pool.name)
    handle.refresh()
    assert not any(is_marker(name) for name in handle.listVolumes())


def test_a_pool_that_is_not_there_is_made_once(connection, machines, pool):
    """All of them find it missing."""
    name = f"{pool.name}-new"
    done = deploy(machines(4, pool=name), Meeting(PhaseStarted, "grow", 4))
    try:
        assert [outcome.error for outcome in done.values()] == [None] * 4
    finally:
        handle = connection.handle.storagePoolLookupByName(name)
        for outcome in done:
            connection.handle.lookupByName(outcome).destroy()
            connection.handle.lookupByName(outcome).undefine()
        for volume in handle.listAllVolumes():
            volume.delete()
        handle.destroy()
        handle.undefine()


def test_many_that_make_volumes_in_one_pool_do_not_disturb_each_other(machines):
    disk = DataDisk(name="db", size=128 * MIB, file_system="ext4", target=None)
    done = deploy(machines(6, disks=(disk,)), jobs=6)
    assert [outcome.error for outcome in done.values()] == [None] * 6


def test_one_that_somebody_else_changes_is_waited_for_by_nobody_else(connection, machines):
    taken, free = machines(2)
    ready = threading.Event()

    def emit(event):
        if isinstance(event, PhaseFinished) and event.phase == "ready":
            ready.set()

    lock = held(connection, [taken.name], ignore, "deploy")
    lock.__enter__()
    result = {}
    work = threading.Thread(target=lambda: result.update(deploy([taken, free], emit, jobs=1)))
    work.start()
    try:
        assert ready.wait(60)
        assert not domains.exists(connection, taken.name)
        assert domains.exists(connection, free.name)
    finally:
        lock.__exit__(None, None, None)
        work.join()
    assert {outcome.outcome for outcome in result.values()} == {"deployed"}


def test_what_somebody_else_did_before_the_lock_was_taken_is_seen(connection, machines):
    """The plan is made again under each lock: nothing is made twice, nothing overwritten."""
    declared = machines(3)
    here = session()
    with observed(here, declared) as planned:
        first = deploy(declared)
        again = deploying.deploy(here, Path("/src/config.scm"), planned)
    assert {outcome.outcome for outcome in first.values()} == {"deployed"}
    assert [outcome.outcome for outcome in again] == ["unchanged"] * 3
    for machine in declared:
        assert domains.read_metadata(connection, machine.name).numbers == (1,)


@pytest.mark.parametrize(
    ("phase", "error"),
    [("grow", OSError("odd")), ("define", ValueError("odd")), ("ready", MemoryError("odd"))],
)
def test_a_defect_in_one_task_is_that_machines(machines, phase, error):
    three = machines(3)
    broken = three[1].name

    def emit(event):
        if getattr(event, "machine", "") == broken and getattr(event, "phase", "") == phase:
            raise error

    done = deploy(three, emit)
    assert [outcome.outcome for outcome in done.values()] == ["deployed", "failed", "deployed"]
    assert "odd" in done[broken].error.message


# --- hypervisors ------------------------------------------------------------


@pytest.fixture
def silent(tmp_path):
    """The URI of a hypervisor that accepts connections and says nothing."""
    path = tmp_path / "silent"
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()
    yield f"qemu+unix:///system?socket={path}"
    listening.close()


@pytest.fixture
def trouble(request, silent, tmp_path, monkeypatch):
    """The URI of a hypervisor that refuses, or is silent, as the parameter says."""
    monkeypatch.setattr("pyguixvm.hypervisor.connection._OPEN_SECONDS", 2.0)
    if request.param == "silent":
        return silent
    return f"qemu+unix:///system?socket={tmp_path}/nothing"


both = pytest.mark.parametrize("trouble", ["refuses", "silent"], indirect=True)


@pytest.fixture
def verb(monkeypatch, capfd):
    """Run a verb on what a configuration would declare; return status, output and errors."""

    def run(machines, verb, *options, name=None):
        declared = Deployment(
            schema=1, config="/src/config.scm", machines=tuple(machines), name=name
        )
        monkeypatch.setattr(declaration, "evaluated", lambda *_, **__: declared)
        monkeypatch.setattr("pyguixvm.commands.evaluate.evaluate", lambda *_, **__: declared)
        monkeypatch.setenv("PYGUIXVM_VIRT_TYPE", "qemu")
        status = main(["-c", SYSTEM, verb, *options, "/src/config.scm"])
        said = capfd.readouterr()
        return status, said.out, said.err

    return run


def there(machine, uri):
    return msgspec.structs.replace(machine, hypervisor=uri)


@both
def test_a_hypervisor_in_trouble_does_not_stop_the_others(connection, machines, verb, trouble):
    here, lost, also_here = machines(3)
    lost = there(lost, trouble)
    declared = [here, lost, also_here]

    status, out, _ = verb(declared, "plan", "--json")
    assert status == 5
    one, other = json.loads(out)["plans"]
    assert [m["effect"] for m in one["machines"]] == ["create", "create"]
    assert "cannot connect" in other["machines"][0]["refusal"]

    status, out, _ = verb(declared, "deploy", "--json")
    assert status == 5
    done = {each["machine"]: each for each in json.loads(out)["machines"]}
    assert done[here.name]["outcome"] == done[also_here.name]["outcome"] == "deployed"
    assert done[lost.name]["error"]["status"] == 5
    assert "was left as it is" in done[lost.name]["error"]["message"]

    status, out, _ = verb(declared, "status", "--json")
    assert status == 5
    found = {each["machine"]: each for each in json.loads(out)["machines"]}
    assert found[here.name]["status"] == "deployed"
    assert found[lost.name]["status"] == "unreachable"
    assert "cannot connect" in found[lost.name]["detail"]

    status, out, err = verb(declared, "deploy")
    assert status == 5
    assert f"{here.name} unchanged" in out
    # While the others go on, and at the end.
    assert err.count(f"{lost.name}: failed: cannot connect") == 1
    assert err.count("error: cannot connect") == 1


def test_the_others_are_not_kept_waiting_for_one_that_is_silent(
    connection, machines, verb, silent, monkeypatch
):
    monkeypatch.setattr("pyguixvm.commands.reach._GRACE", 1.0)
    here, lost = machines(2)
    begun = time.monotonic()
    status, out, _ = verb([there(lost, silent), here], "plan", "--json")
    # To connect to one alone, half a minute is allowed.
    assert time.monotonic() - begun < 20
    assert status == 5
    one, other = json.loads(out)["plans"]
    assert [m["effect"] for m in one["machines"]] == ["create"]
    assert "after the others did" in other["machines"][0]["refusal"]


@both
def test_what_was_not_seen_is_neither_gone_nor_free(
    connection, deployed, machines, verb, trouble, pool
):
    kept, moved, gone = (deployed(deployment="infra") for _ in range(3))
    for machine in (kept, moved, gone):
        domains.start_paused(connection, machine.name)
    (new,) = machines(1)
    # It is to be on the other one, and may be there already, or not yet.
    away = there(moved, trouble)
    status, out, err = verb([kept, away, new], "deploy", "--json", "--prune", "--yes", name="infra")
    assert status == 5
    said = json.loads(out)
    assert [each["machine"] for each in said["removed"]] == [gone.name]
    assert domains.exists(connection, moved.name)
    assert not domains.exists(connection, gone.name)
    assert "nobody knows what is there" in err
    refused = next(each for each in said["machines"] if each["machine"] == new.name)
    assert "did not answer" in refused["error"]["message"]
    assert not domains.exists(connection, new.name)


@both
def test_one_hypervisor_alone_in_trouble_fails_as_such(machines, verb, trouble):
    (lost,) = machines(1)
    status, out, _ = verb([there(lost, trouble)], "deploy", "--json")
    assert status == 5
    assert "cannot connect" in json.loads(out)["error"]["message"]


# --- interruption -----------------------------------------------------------


def interrupted(machines, event, *names):
    """Deploy MACHINES in another process, which gets signals after EVENT."""
    command = "; ".join(f"kill -{name} $DEPLOY_PROCESS" for name in names)
    given = msgspec.json.encode(machines).decode()
    return ran(ONCE, given, event, "sh", "-c", command)


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP"])
def test_who_interrupts_before_a_switch_leaves_nothing(connection, machines, pool, name):
    three = machines(3)
    ended = interrupted(three, "PhaseStarted grow", name)
    assert ended.returncode == 130, ended.stderr
    for machine in three:
        assert not domains.exists(connection, machine.name)
    handle = connection.handle.storagePoolLookupByName(pool.name)
    handle.refresh()
    assert [name for name in handle.listVolumes() if ".g1." in name or is_marker(name)] == []
    assert not holders(connection).keys() & {machine.name for machine in three}


@pytest.mark.parametrize("names", [["INT"], ["INT", "INT", "INT"], ["TERM", "HUP"]])
def test_switches_are_finished_for_all_however_often_somebody_interrupts(
    connection, machines, names
):
    """A second Control-C tears none of them."""
    three = machines(3)
    ended = interrupted(three, "PhaseFinished define", *names)
    assert ended.returncode == 130, ended.stderr
    assert "a guest is away, and is started first" in ended.stderr
    begun = [machine for machine in three if domains.exists(connection, machine.name)]
    assert begun
    for machine in begun:
        assert domains.state(connection, machine.name) == "running"
    assert not holders(connection).keys() & {machine.name for machine in three}
    assert {outcome.status for outcome in deploy(three).values()} == {0}


def test_who_waits_for_a_lock_can_be_interrupted(connection, machines):
    (one,) = machines(1)
    with held(connection, [one.name], ignore, "deploy"):
        begun = time.monotonic()
        ended = interrupted([one], "Notice waiting", "INT")
        assert ended.returncode == 130, ended.stderr
        assert time.monotonic() - begun < 20
    assert not domains.exists(connection, one.name)
