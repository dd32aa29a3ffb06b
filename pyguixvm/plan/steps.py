# SPDX-License-Identifier: GPL-3.0-or-later
"""What several plans have in common; pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from pyguixvm.errors import PyguixvmError
from pyguixvm.model.applied import Generation, Metadata
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.model.difference import Difference, Effect
from pyguixvm.plan.actions import (
    DefineDomain,
    StartDomain,
    StopDomain,
)
from pyguixvm.plan.plan import MachinePlan, Policy

_ORDER: tuple[Effect, ...] = ("none", "live", "restart", "replace")


def strongest(changed: Iterable[Difference]) -> Effect:
    """Return the effect of CHANGED that a guest notices most."""
    return max((d.effect for d in changed), key=_ORDER.index, default="none")


def refused(
    machine: VirtualMachine,
    effect: Effect,
    error: PyguixvmError,
    changed: tuple[Difference, ...] = (),
) -> MachinePlan:
    """Return the plan to do nothing to MACHINE although it has CHANGED, since ERROR forbids it."""
    return MachinePlan(
        machine=machine,
        effect=effect,
        differences=changed,
        refusal=error.message,
        hint=error.hint,
    )


def define(machine: VirtualMachine, generation: int) -> DefineDomain:
    """Return the step that defines MACHINE's domain with GENERATION as its current one."""
    return DefineDomain(generation=generation, autostart=machine.domain.autostart)


def stop(running: bool, policy: Policy) -> tuple[StopDomain, ...]:
    """Return the steps, if any, that end a guest if it is RUNNING, as POLICY allows."""
    return (policy.stop(),) if running else ()


def as_fast_as_allowed(stop: StopDomain, policy: Policy) -> StopDomain:
    """Return STOP for a guest whose root is thrown away, as POLICY allows."""
    return msgspec.structs.replace(stop, fast=policy.fast_stop)


def start(machine: VirtualMachine) -> StartDomain:
    """Return the step that starts MACHINE's guest."""
    return StartDomain(timeout=machine.ready_timeout)


def proven(metadata: Metadata) -> int:
    """Return the newest generation known to get ready, to which a change can be taken back."""
    return metadata.current if metadata.fallback is None else metadata.fallback


def last_downtime(generations: Iterable[Generation]) -> float | None:
    """Return how long (seconds) the last switch took, if there was any."""
    known = [g.downtime for g in generations if g.downtime is not None]
    return known[-1] if known else None
