# SPDX-License-Identifier: GPL-3.0-or-later
"""A line that is cut: who has another one made, who waits for it, and who hears of it."""

import threading
from types import SimpleNamespace

import libvirt
import pytest

from pyguixvm.hypervisor.bounded import bounded, close, stay
from pyguixvm.hypervisor.domain_events import Events
from pyguixvm.hypervisor.line import LineLostError
from pyguixvm.hypervisor.machine_lock.beats import Beats
from pyguixvm.hypervisor.time_limits import SilenceError

# What ends only by a defect ends the test (seconds).
FAR_TOO_LONG = 60
LIFECYCLE = libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE
REBOOT = libvirt.VIR_DOMAIN_EVENT_ID_REBOOT


def connection(*, alive=True, silent=None, dies=False):
    """Return one that is ALIVE, until something is registered if it DIES; SILENT until that is set.

    What it was asked for is in its `asked`.
    """
    made = libvirt.virConnect.__new__(libvirt.virConnect)
    made._o = None
    made.asked = []
    made.alive = alive
    told = set()

    def answering(name):
        def answer(*given):
            made.asked.append((name, *given))
            if silent is not None:
                silent.wait(FAR_TOO_LONG)
            if dies and name == "domainEventRegisterAny":
                made.alive = False
            if not made.alive:
                raise libvirt.libvirtError("cut")
            if name == "domainEventRegisterAny":
                if given[1] in told:
                    raise libvirt.libvirtError("event callback already tracked")
                told.add(given[1])
            return len(made.asked)

        return answer

    for name in ("getHostname", "getInfo", "resize", "domainEventRegisterAny",
                 "domainEventDeregisterAny"):  # fmt: skip
        setattr(made, name, answering(name))
    made.isAlive = lambda: made.alive
    made.close = lambda: 0
    return made


def done(work):
    """Do WORK in a thread, and return what it returns, or the error that it raises."""
    found = []

    def run():
        try:
            found.append(work())
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is looked at
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(FAR_TOO_LONG)
    assert found, "it waits for ever"
    return found[0]


def registered(made):
    return [event for name, *given in made.asked if name == "domainEventRegisterAny"
            for event in given[1:2]]  # fmt: skip


def heard(events, *kinds):
    """Listen to KINDS of EVENTS; return how often something may have been missed."""
    missed = []
    with events.listening(None, dict.fromkeys(kinds, lambda *_: missed.append(1))):
        return len(missed)


def test_who_begins_to_listen_may_find_the_line_cut():
    second = connection()
    events = Events(bounded(connection(alive=False), FAR_TOO_LONG, lambda: second))
    done(lambda: heard(events, LIFECYCLE, REBOOT))
    assert registered(second) == [LIFECYCLE, REBOOT]


def test_two_who_begin_to_listen_at_once_have_it_told_once():
    answers = threading.Event()
    first = connection(silent=answers)
    events = Events(bounded(first, FAR_TOO_LONG, None))
    others = []
    other = threading.Thread(target=lambda: others.append(heard(events, LIFECYCLE)))
    other.start()
    threading.Timer(0.2, answers.set).start()
    assert done(lambda: heard(events, LIFECYCLE)) == 0
    other.join(FAR_TOO_LONG)
    assert others == [0]
    assert registered(first) == [LIFECYCLE]


def test_a_line_that_is_cut_again_while_it_is_told_what_to_tell():
    last = connection()
    coming = [connection(), connection(dies=True), last]
    handle = bounded(coming.pop(0), FAR_TOO_LONG, lambda: coming.pop(0))
    first = handle._subject
    events = Events(handle)

    def listen():
        missed = []
        with events.listening(None, dict.fromkeys((LIFECYCLE, REBOOT), lambda: missed.append(1))):
            first.alive = False
            handle.getInfo()
        return len(missed)

    assert done(listen)
    # Twice, if it was cut while that was asked for: who hears of something looks, no more.
    assert set(registered(last)) == {LIFECYCLE, REBOOT}


def test_a_line_that_was_cut_is_not_made_again_to_be_closed():
    first, opened = connection(), []
    handle = bounded(first, FAR_TOO_LONG, lambda: opened.append(1) or connection())
    events = Events(handle)
    heard(events, LIFECYCLE)
    first.alive = False
    stay(handle)
    events.end(far=True)
    close(handle)
    assert not opened


def test_what_an_earlier_connection_tells_is_not_taken_from_the_next_one():
    """Its number may be another event's there."""
    first, second = connection(), connection()
    again = [second]
    handle = bounded(first, FAR_TOO_LONG, again.pop)
    events = Events(handle)
    heard(events, LIFECYCLE)
    first.alive = False
    second.domainEventRegisterAny = first.domainEventRegisterAny  # which fails by now
    handle.getInfo()
    stay(handle)
    events.end(far=True)
    assert [name for name, *_ in second.asked] == ["getInfo"]


def test_what_takes_long_is_not_waited_for_over_a_line_that_was_left():
    """Another thread had another one made meanwhile, which answers."""
    silent = threading.Event()
    first, second = connection(silent=silent), connection()
    handle = bounded(first, 0.5, lambda: second)
    resized = []
    thread = threading.Thread(target=lambda: resized.append(done(handle.resize)), daemon=True)
    thread.start()
    while not first.asked:
        silent.wait(0.01)
    first.alive = False
    assert handle.getInfo() == 1
    thread.join(FAR_TOO_LONG)
    silent.set()
    assert [type(error) for error in resized] == [SilenceError]
    assert [name for name, *_ in second.asked] == ["getInfo"]


def test_who_gave_up_in_the_background_takes_nobody_elses_chance():
    there = []

    def opened():
        if not there:
            raise libvirt.libvirtError("no route")
        return connection()

    handle = bounded(connection(alive=False), 0.1, opened)
    assert isinstance(done(handle.getInfo), LineLostError)
    there.append(True)
    assert handle.getInfo() == 1


def test_who_waited_in_vain_does_not_wait_again_for_each_thing():
    tries = []

    def opened():
        tries.append(1)
        raise libvirt.libvirtError("no route")

    handle = bounded(connection(alive=False), FAR_TOO_LONG / 100, opened)
    with pytest.raises(LineLostError, match="no other: no route"):
        handle.getInfo()
    before = len(tries)
    for _ in range(20):
        with pytest.raises(LineLostError, match="no other: no route"):
            handle.getInfo()
    assert len(tries) == before


def test_beats_outlive_a_line_that_is_not_there_for_a_while():
    failed, beaten = threading.Event(), threading.Event()
    last = connection()
    last.secretLookupByUUIDString = lambda _: SimpleNamespace(setValue=lambda *_: beaten.set())

    def opened():
        if failed.is_set():
            return last
        failed.set()
        raise libvirt.libvirtError("no route")

    handle = bounded(connection(alive=False), 0.05, opened)
    lost = SimpleNamespace(
        uri="nowhere:///", handle=handle, read_only=False, verify=False, patience=0.05
    )
    beats = Beats(lost, 0.01)
    beats.add("a lock")
    try:
        assert beaten.wait(FAR_TOO_LONG)
    finally:
        beats.stop()
