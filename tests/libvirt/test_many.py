# SPDX-License-Identifier: GPL-3.0-or-later
"""Many machines: who comes first, how many at a time, and what becomes of the others after one."""

import json
import sys
import threading
from pathlib import Path

import msgspec
import pytest
from another import another_libvirtd
from boot_sector import heeding_button
from deploying import MIB, take_away, virsh, with_image

from pyguixvm.cli import declaration
from pyguixvm.cli.app import main
from pyguixvm.commands import deploy as deploying
from pyguixvm.commands.planning import observed
from pyguixvm.commands.session import Session
from pyguixvm.events import MachineEnded, PhaseFinished, PhaseStarted, ignore
from pyguixvm.hypervisor import domains
from pyguixvm.hypervisor.connection import connect
from pyguixvm.hypervisor.machine_lock.lock import holders
from pyguixvm.model.declaration import ConsoleReady, DataDisk, Deployment
from pyguixvm.plan.order import Order

SYSTEM = "qemu:///system"
SILENT = (ConsoleReady("never"),)


@pytest.fixture
def machines(connection, a_machine, pool, tmp_path):
    """Declare machines that say a word, and are off when their power button is pressed."""
    declared = []

    def declare(number, *, uri=None, **fields):
        made = []
        for _ in range(number):
            file = tmp_path / f"image-{len(declared)}.raw"
            file.write_bytes(heeding_button("up"))
            pool_name = {"pool": "default" if uri else pool.name}
            machine = with_image(a_machine(**pool_name, ready=(ConsoleReady("up"),)), file)
            made.append(msgspec.structs.replace(machine, hypervisor=uri, **fields))
            declared.append(made[-1])
        return made

    yield declare
    take_away(*(machine.name for machine in declared))


def failing(machine):
    return msgspec.structs.replace(machine, ready=SILENT, ready_timeout=1)


def changed(machine, **fields):
    domain = msgspec.structs.replace(machine.domain, **fields)
    return msgspec.structs.replace(machine, domain=domain)


def deploy(machines, emit=ignore, order=Order(), **fields):  # noqa: B008 -- it is frozen
    """Deploy MACHINES in ORDER; return what became of each, by name."""
    environment = {"PYGUIXVM_VIRT_TYPE": "qemu"}
    here = Session(SYSTEM, (), environment, emit, sys.stderr.write, **fields)
    with observed(here, machines) as planned:
        done = deploying.deploy(here, Path("/src/config.scm"), planned, order=order)
    return {outcome.machine: outcome for outcome in done}


class Log:
    """Remembers which machine was begun and ready when."""

    def __init__(self):
        self.seen = []

    def __call__(self, event):
        if isinstance(event, PhaseStarted) and event.phase == "grow":
            self.seen.append(("begun", event.machine))
        elif isinstance(event, PhaseFinished) and event.phase == "ready":
            self.seen.append(("ready", event.machine))


class Last:
    """Has a machine, which is begun with the OTHERS, waited for only when these are done."""

    def __init__(self, machine, others):
        self.over = threading.Event()
        self._machine, self._left = machine.name, set(others)

    def __call__(self, event):
        if isinstance(event, MachineEnded):
            self._left.discard(event.machine)
            if not self._left:
                self.over.set()
        waited_for = isinstance(event, PhaseStarted) and event.phase == "ready"
        if waited_for and event.machine == self._machine:
            assert self.over.wait(120)


def test_what_is_required_is_ready_before_anything_else_is_begun(machines):
    db, web = machines(2)
    web = msgspec.structs.replace(web, requires=(db.name,))
    log = Log()
    done = deploy([web, db], log)
    assert {each.outcome for each in done.values()} == {"deployed"}
    assert log.seen == [(w, m.name) for m in (db, web) for w in ("begun", "ready")]


def test_who_requires_what_is_not_ready_is_left_and_others_are_not(connection, machines):
    db, web, mail = machines(3)
    web = msgspec.structs.replace(web, requires=(db.name,))
    done = deploy([web, failing(db), mail])
    assert (done[db.name].status, done[web.name].status) == (7, 1)
    assert f"'{db.name}', which it requires, failed" in done[web.name].error.message
    assert done[mail.name].outcome == "deployed"
    assert not domains.exists(connection, web.name)
    # Mended, they follow; what was done is left alone.
    again = deploy([web, db, mail])
    assert {name: each.outcome for name, each in again.items()} == {
        web.name: "deployed",
        db.name: "updated",
        mail.name: "unchanged",
    }


def test_one_rolls_after_the_other_and_the_rest_stays_after_a_failure(connection, machines):
    log = Log()
    four = machines(4)
    four[1] = failing(four[1])
    done = deploy(four, log, Order(at_once=1))
    assert [done[m.name].outcome for m in four] == ["deployed", "failed", "failed", "failed"]
    assert log.seen == [(w, m.name) for m in four[:2] for w in ("begun", "ready")]
    assert f"'{four[1].name}' failed before" in done[four[3].name].error.message
    assert not domains.exists(connection, four[2].name)


def domains_of(connection, machines):
    return [domains.exists(connection, machine.name) for machine in machines]


def test_nothing_is_left_of_new_machines_if_one_fails(connection, machines, pool):
    three = machines(3)
    disk = DataDisk(name="db", size=128 * MIB, file_system="ext4", target=None)
    three[0] = changed(three[0], disks=(disk,))
    done = deploy([*three[:2], failing(three[2])], order=Order(all_or_nothing=True))
    assert done[three[2].name].status == 7
    for machine in three[:2]:
        assert done[machine.name].outcome in {"taken-back", "failed"}
    assert domains_of(connection, three[:2]) == [False, False]
    handle = connection.handle.storagePoolLookupByName(pool.name)
    handle.refresh()
    names = handle.listVolumes()
    assert not [n for n in names if ".g1." in n and three[2].name not in n]
    # What is data stays, whoever made it.
    if done[three[0].name].outcome == "taken-back":
        assert [n for n in names if three[0].name in n]
    assert not holders(connection).keys() & done.keys()


def test_machines_that_were_changed_return_to_what_they_were(connection, machines):
    resources, image, new, late = machines(4)
    deploy([resources, image])
    images = Path(image.image.path)
    other = images.with_name("other.raw")
    other.write_bytes(heeding_button("up again"))
    others = {resources.name, image.name, new.name}
    emit = Last(late, others)

    wanted = [
        changed(resources, cpu=2, maximum_cpu=2),
        with_image(image, other),
        new,
        failing(late),
    ]
    done = deploy(wanted, emit, Order(all_or_nothing=True))
    assert emit.over.is_set()
    assert done[late.name].status == 7
    assert {done[name].outcome for name in others} == {"taken-back"}
    assert f"generation 1 again, since '{late.name}' failed" in done[image.name].detail
    assert not domains.exists(connection, new.name)
    assert domains.read_metadata(connection, image.name).current == 1
    assert deploy([resources, image])[image.name].outcome == "unchanged"
    assert "<vcpu placement='static'>1</vcpu>" in virsh(f"dumpxml --inactive {resources.name}")
    for name in (resources.name, image.name):
        assert domains.state(connection, name) == "running"


@pytest.mark.parametrize("new", [True, False])
def test_what_somebody_else_changed_meanwhile_is_not_taken_back(connection, machines, new):
    mine, late = machines(2)
    wanted = mine
    if not new:
        deploy([mine])
        wanted = changed(mine, cpu=2, maximum_cpu=2)
    last, theirs = Last(late, {mine.name}), []

    def emit(event):
        if isinstance(event, MachineEnded) and event.machine == mine.name and not theirs:
            theirs.append(event)
            domain = domains.ours(connection, mine.name)
            metadata = domains.read_metadata(connection, domain)
            other = msgspec.structs.replace(metadata, deployment="theirs")
            domains.write_metadata(connection, domain, other)
        last(event)

    done = deploy([wanted, failing(late)], emit, Order(all_or_nothing=True))
    assert theirs
    assert "somebody else changed" in done[mine.name].error.message
    assert domains.read_metadata(connection, mine.name).deployment == "theirs"
    assert domains.state(connection, mine.name) == "running"


def test_the_summary_and_the_status_are_for_all(machines, monkeypatch, capfd):
    fine, lost, also_lost = machines(3)
    declared = Deployment(schema=1, config="/c.scm", machines=(fine, failing(lost)))
    monkeypatch.setattr(declaration, "evaluated", lambda *_, **__: declared)
    monkeypatch.setenv("PYGUIXVM_VIRT_TYPE", "qemu")
    assert main(["-c", SYSTEM, "deploy", "--rolling", "2", "/c.scm"]) == 7
    assert f"2 machines: 1 deployed, 1 failed ({lost.name})" in capfd.readouterr().err
    declared = Deployment(schema=1, config="/c.scm", machines=(fine, failing(also_lost)))
    assert main(["-c", SYSTEM, "deploy", "--json", "/c.scm"]) == 7
    said = {each["machine"]: each for each in json.loads(capfd.readouterr().out)["machines"]}
    assert (said[fine.name]["outcome"], said[also_lost.name]["error"]["status"]) == ("unchanged", 7)


# --- another hypervisor -----------------------------------------------------


@pytest.fixture
def another(tmp_path_factory):
    with another_libvirtd(tmp_path_factory.mktemp("another")) as running:
        yield running


def test_one_that_stops_answering_does_not_hold_up_the_others(machines, another):
    here, there = machines(4), machines(4, uri=another.uri)
    names = {machine.name for machine in here}
    stopped, ended = threading.Event(), []

    def emit(event):
        if isinstance(event, PhaseStarted) and event.phase == "grow" and not stopped.is_set():
            stopped.set()
            another.stop_answering()
        if isinstance(event, MachineEnded):
            ended.append(event.machine)

    done = deploy([*here, *there], emit, patience=5)
    another.go_on()
    assert {done[each.name].outcome for each in here} == {"deployed"}
    lost = [done[each.name] for each in there]
    assert {each.status for each in lost} == {5}, lost
    # All of them had ended before the first that waited for an answer in vain.
    assert set(ended[: len(names)]) == names


def test_two_hosts_are_two_hypervisors(machines, another):
    here, there = *machines(1), *machines(1, uri=another.uri)
    done = deploy([here, there])
    assert {each.outcome for each in done.values()} == {"deployed"}
    with connect(another.uri) as elsewhere:
        assert domains.exists(elsewhere, there.name)
        assert not domains.exists(elsewhere, here.name)
