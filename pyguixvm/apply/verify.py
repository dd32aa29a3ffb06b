# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest that boots is waited for; then its generation is kept, or taken back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec

from pyguixvm.apply import power
from pyguixvm.apply.context import Workshop
from pyguixvm.apply.outcome import Outcome
from pyguixvm.apply.take_back import taken_back
from pyguixvm.errors import NotReadyError, PyguixvmError
from pyguixvm.hypervisor import domains, volumes
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.model.difference import Effect
from pyguixvm.plan.actions import AwaitReady
from pyguixvm.plan.plan import MachinePlan
from pyguixvm.plan.readiness import Evidence


@dataclass(frozen=True)
class Booting:
    """A guest that runs but has not been seen ready, as MACHINE declares it.

    DEADLINE and STOPPED, when the guest before it was stopped, are on the
    workshop's clock.
    """

    plan: MachinePlan
    machine: VirtualMachine
    evidence: Evidence
    deadline: float
    stopped: float | None


def awaited(booting: Booting, workshop: Workshop) -> Outcome:
    """Wait for the guest that is BOOTING; return how it went, be it taken back.

    Raises NotReadyError if it is not ready, and there is nothing to take back.
    """
    plan, machine = booting.plan, booting.machine
    readiness = power.wait(machine, booting.evidence, booting.deadline, workshop)
    unseen = readiness.outcome == "unverified"
    if (
        readiness.outcome == "not-ready"
        and not readiness.against
        and plan.fallback is not None
        and not _was_seen_so(machine, plan.fallback, workshop)
    ):
        unseen = True
    elif readiness.outcome == "not-ready":
        message = f"'{machine.name}' was deployed but is not ready: {readiness.detail}"
        if plan.fallback is not None:
            return taken_back(plan, message, readiness.console, workshop)
        raise NotReadyError(
            message,
            console=readiness.console,
            hint=f"It was left running. Power it off with: pyguixvm destroy {machine.name}",
        )
    downtime = None if booting.stopped is None else workshop.clock() - booting.stopped
    _remember_ready(machine.name, downtime, workshop, unverified=unseen)
    if unseen:
        workshop.warn(machine.name, f"not verified: {readiness.detail}")
    away = "" if downtime is None else f", away for {downtime:.1f} s"
    return Outcome(
        machine.name,
        _word(plan),
        detail=readiness.detail + away,
        addresses=readiness.addresses,
    )


def not_even_started(plan: MachinePlan, error: PyguixvmError, workshop: Workshop) -> Outcome:
    """Return how it went with a machine whose new generation does not even start, for ERROR."""
    if plan.fallback is None:
        raise error
    return taken_back(plan, error.message, (), workshop)


def _word(plan: MachinePlan) -> Literal["deployed", "updated", "restarted", "started", "unchanged"]:
    """Return what was done by PLAN: if it was nothing but to wait, nothing."""
    if all(isinstance(action, AwaitReady) for action in plan.actions):
        return "unchanged"
    return _WORDS.get(plan.effect, "started")


_WORDS: Mapping[Effect, Literal["deployed", "updated", "restarted", "started"]] = {
    "create": "deployed",
    "live": "updated",
    "replace": "updated",
    "restart": "restarted",
}


def _was_seen_so(machine: VirtualMachine, number: int, workshop: Workshop) -> bool:
    """Whether generation NUMBER was seen in the way in which MACHINE is to be seen."""
    _, metadata, _ = domains.definition(workshop.connection, machine.name)
    before = metadata.find(number)
    in_vain = before.unverified or before.unseen or before.failed
    return not in_vain and set(machine.ready) <= set(before.declaration.ready)


def _remember_ready(
    name: str, downtime: float | None, workshop: Workshop, *, unverified: bool
) -> None:
    """Note that the current generation was seen ready, and how long the machine was away.

    UNVERIFIED: nothing is known against it, at least.
    """
    workshop.require(name)
    _, metadata, domain = domains.definition(workshop.connection, name)
    current = metadata.generation
    # Left by a run that ended between the definition and this.
    volumes.delete_marker(workshop.connection, current.pool, current.volume)
    goes_on = current.deploy is not None and current.deploy.seconds is None
    new = current.failed or current.unseen or goes_on or current.unverified != unverified
    if metadata.fallback is None and downtime is None and not new:
        return
    seen = msgspec.structs.replace(
        current,
        failed=False,
        unseen=False,
        unverified=unverified,
        deploy=workshop.deploy(over=True),
        downtime=current.downtime if downtime is None else round(downtime, 1),
    )
    metadata = msgspec.structs.replace(metadata.having(seen), fallback=None)
    domains.write_metadata(workshop.connection, domain, metadata)
