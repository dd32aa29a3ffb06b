# SPDX-License-Identifier: GPL-3.0-or-later
"""Where Control-C ends a deployment; the signals are real."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from pyguixvm.cli.safepoints import SafePoints
from pyguixvm.events import Event, Notice, Phase, PhaseFinished, PhaseStarted, phase

SWITCH: tuple[Phase, ...] = ("stop", "define", "start")


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.05)


class Deployment:
    """Goes through phases, and notes how far it came; interrupts itself in those of AT."""

    def __init__(self, *at: Phase) -> None:
        self.at = list(at)
        self.done: list[Phase] = []
        self.seen: list[Event] = []
        self.points = SafePoints(self.seen.append)

    def run(self, *phases: Phase) -> None:
        with self.points.heeded():
            for name in phases:
                with phase(self.points.emit, name):
                    for _ in range(self.at.count(name)):
                        interrupt()
                self.done.append(name)

    def warned(self) -> list[str]:
        for thread in threading.enumerate():
            if thread is not threading.current_thread():
                thread.join(timeout=5)
        return [event.message for event in self.seen if isinstance(event, Notice)]


@pytest.mark.parametrize("at", ["evaluate", "build", "transfer", "try", "ready"])
def test_where_nothing_is_half_done_it_ends_at_once(at: Phase) -> None:
    deployment = Deployment(at)
    phases: tuple[Phase, ...] = ("evaluate", "build", "transfer", "try", *SWITCH, "ready")
    with pytest.raises(KeyboardInterrupt):
        deployment.run(*phases)
    assert deployment.done == list(phases[: phases.index(at)])
    assert not deployment.warned()


@pytest.mark.parametrize("at", SWITCH)
def test_a_switch_is_finished_and_the_next_phase_does_not_begin(at: Phase) -> None:
    deployment = Deployment(at)
    with pytest.raises(KeyboardInterrupt):
        deployment.run("transfer", *SWITCH, "ready")
    assert deployment.done == ["transfer", *SWITCH]
    assert PhaseStarted("ready") not in deployment.seen
    assert isinstance(deployment.seen[-1], PhaseFinished | Notice)
    (warning,) = deployment.warned()
    assert "finished first" in warning


def test_what_changes_last_is_finished_and_then_it_ends() -> None:
    deployment = Deployment("update")
    with pytest.raises(KeyboardInterrupt):
        deployment.run("define", "update")
    assert deployment.done == ["define", "update"]


def test_the_second_time_it_ends_at_once() -> None:
    deployment = Deployment("stop", "stop")
    with pytest.raises(KeyboardInterrupt):
        deployment.run(*SWITCH)
    assert deployment.done == []


def test_afterwards_interrupts_are_what_they_were() -> None:
    before = signal.getsignal(signal.SIGINT)
    Deployment().run("evaluate")
    assert signal.getsignal(signal.SIGINT) is before
