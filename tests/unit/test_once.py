# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host offers is asked for once, for as long as the hypervisor is alive."""

import threading

import libvirt
import pytest

from pyguixvm.hypervisor.bounded import bounded
from pyguixvm.hypervisor.once import Once
from pyguixvm.interruption import Interruption


class Starting:
    """A connection whose libvirtd starts one QEMU after the other until it was LOOKED at."""

    def __init__(self, looks):
        self._looks = looks
        self._seen = threading.Event()
        self.asked = 0

    def getHostname(self):  # noqa: N802 -- libvirt's name
        self._looks -= 1
        if self._looks <= 0:
            self._seen.set()
        return "here"

    def getCapabilities(self):  # noqa: N802 -- libvirt's name
        self.asked += 1
        assert self._seen.wait(60)
        return "<capabilities/>"


class Failing(Starting):
    """One that fails at the first time."""

    def getCapabilities(self):  # noqa: N802 -- libvirt's name
        self.asked += 1
        if self.asked == 1:
            raise libvirt.libvirtError("no QEMU")
        return "<capabilities/>"


@pytest.mark.parametrize("begun", [False, True])
def test_it_may_take_longer_than_other_requests_have(begun):
    # Each look means that another patience has passed.
    starting = Starting(looks=3)
    offered = Once(bounded(starting, 0.05).getCapabilities)
    if begun:
        offered.begin()
    assert [offered.answer(), offered.answer()] == ["<capabilities/>"] * 2
    assert starting.asked == 1


def test_it_is_asked_for_before_somebody_waits():
    starting = Starting(looks=0)
    starting.getHostname()
    offered = Once(starting.getCapabilities)
    offered.begin()
    offered.begin()
    while not starting.asked:
        threading.Event().wait(0.01)
    assert offered.answer() == "<capabilities/>"
    assert starting.asked == 1


@pytest.mark.parametrize("begun", [False, True])
def test_what_failed_is_asked_for_again(begun):
    failing = Failing(looks=0)
    offered = Once(failing.getCapabilities)
    if begun:
        offered.begin()
    with pytest.raises(libvirt.libvirtError):
        offered.answer()
    assert offered.answer() == "<capabilities/>"


@pytest.fixture
def answering():
    """Have one thread wait for a hypervisor that answers in the end; yield what it waits for."""
    starting = Starting(looks=1)
    offered = Once(starting.getCapabilities)
    waiting = threading.Thread(target=offered.answer)
    waiting.start()
    while not starting.asked:
        threading.Event().wait(0.01)
    yield offered
    starting.getHostname()
    waiting.join(60)


def test_who_waits_for_another_thread_may_be_interrupted(answering):
    interruption, ended = Interruption(), []

    def work():
        with interruption.followed():
            try:
                answering.answer()
            except KeyboardInterrupt:
                ended.append("interrupted")

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    with interruption.left_to_others():
        interruption.ask()
    thread.join(60)
    assert ended == ["interrupted"]


def test_to_begin_waits_for_nobody(answering):
    thread = threading.Thread(target=answering.begin, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
