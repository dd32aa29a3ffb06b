# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest boots by kexec, or is stopped and started, in the time that it has for both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import pytest
from declarations import machine

from pyguixvm.apply import power
from pyguixvm.apply.context import Workshop
from pyguixvm.apply.power import Restart
from pyguixvm.errors import HypervisorError, RequestRefusedError
from pyguixvm.events import PhaseFinished
from pyguixvm.guix.store import Store
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.domains import Domain
from pyguixvm.hypervisor.power import WaitSkippedError
from pyguixvm.plan.actions import StopDomain


class Place:
    """What stands for the guest and what is done to it; each wait takes its time.

    KEXEC is how long its services take (seconds), CANNOT that it says then that it does not
    boot by kexec, and REFUSES that it does not shut down.  BOOTED is whether it has booted by
    kexec after all.  IMPATIENT is who would press Control-C.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.kexec = 0.0, 5.0
        self.refuses = self.booted = self.impatient = self.cannot = self.heard = False
        self.done: list[tuple[str, object]] = []
        self.told: list[Any] = []
        self.workshop = Workshop(
            cast("Connection", None),
            self.told.append,
            {},
            cast("Store", None),
            clock=lambda: self.now,
        )
        monkeypatch.setattr(power.kexec, "listening", self.listening)
        monkeypatch.setattr(power, "stop", self.stop)
        monkeypatch.setattr(power, "start", self.start)
        monkeypatch.setattr(power.domains, "destroy", lambda *_: self.done.append(("off", None)))
        self.reboot = self

    @contextmanager
    def listening(self, *_: object) -> Iterator[Place]:
        self.heard = True
        yield self
        self.heard = False

    @contextmanager
    def followed(self) -> Iterator[str]:
        assert self.heard
        yield "followed"

    def begin(
        self, timeout: float, _sleep: object, _clock: object, skipped: Callable[[], bool]
    ) -> None:
        if self.impatient:
            self.workshop.interruption.ask(by_hand=True)
        if skipped():
            raise WaitSkippedError("not waited for")
        self.now += min(self.kexec, timeout)
        if self.cannot:
            raise HypervisorError("its system cannot")
        if self.kexec > timeout:
            raise HypervisorError("its services have not stopped in time")

    def is_over(self) -> bool:
        return self.booted

    def stop(self, _name: str, _domain: object, action: StopDomain, _workshop: object) -> None:
        self.done.append(("stop", action.timeout))
        if self.refuses:
            raise RequestRefusedError("it still runs")

    def start(self, *_: object) -> str:
        # Its console is to be heard from the first word on.
        assert not self.heard
        return "started"

    def restart(self, watched: ExitStack, *, force: bool = False) -> object:
        wanted = Restart(StopDomain(timeout=60, force=force), kernel_loaded=True)
        return power.restart(machine("web"), cast("Domain", None), wanted, self.workshop, watched)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(monkeypatch)


def test_a_guest_that_boots_by_kexec_is_heard_as_long_as_it_is_watched(place: Place) -> None:
    with ExitStack() as watched:
        assert place.restart(watched) == "followed"
        assert place.heard
    assert not place.heard
    assert place.done == []


def test_a_guest_has_no_more_time_to_stop_than_it_was_given(place: Place) -> None:
    place.kexec = 1000
    with ExitStack() as watched:
        assert place.restart(watched) == "started"
    assert place.done == [("stop", 1)]


def test_what_says_soon_that_it_cannot_has_the_rest(place: Place) -> None:
    place.cannot = True
    with ExitStack() as watched:
        assert place.restart(watched) == "started"
    assert place.done == [("stop", 55)]


def test_whoever_does_not_wait_has_it_powered_off(place: Place) -> None:
    place.impatient = True
    with ExitStack() as watched:
        assert place.restart(watched, force=True) == "started"
    assert place.done == [("off", None)]
    (finished,) = (each for each in place.told if isinstance(each, PhaseFinished))
    assert finished.detail == "powered off, since it was not waited for"


@pytest.mark.parametrize("booted", [True, False])
def test_what_does_not_stop_may_have_booted_meanwhile(place: Place, booted: bool) -> None:
    place.kexec, place.refuses, place.booted = 1000, True, booted
    with ExitStack() as watched:
        if booted:
            assert place.restart(watched) == "followed"
        else:
            with pytest.raises(RequestRefusedError):
                place.restart(watched)
    assert place.done == [("stop", 1)]
