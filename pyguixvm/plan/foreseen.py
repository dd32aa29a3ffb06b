# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plan would come upon on the hypervisor; pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from pyguixvm.errors import PyguixvmError, RequestRefusedError
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.model.observation import Observation
from pyguixvm.plan.actions import CreateDisk, CreateEmptyRoot, CreateRoot, DefineDomain, StartDomain
from pyguixvm.plan.plan import MachinePlan


def foreseen(plan: MachinePlan, observation: Observation) -> MachinePlan:
    """Return PLAN with the pool that it makes, or refused if it would be stopped half-way.

    That is where it needs a network that the host of OBSERVATION lacks, or a pool that
    cannot be made there.
    """
    try:
        if any(isinstance(action, DefineDomain | StartDomain) for action in plan.actions):
            _require_networks(plan.machine, observation)
        missing = next(_missing_pools(plan, observation), None)
    except RequestRefusedError as error:
        return refused(plan, error)
    return plan if missing is None else msgspec.structs.replace(plan, new_pool=missing)


def refused(plan: MachinePlan, error: PyguixvmError) -> MachinePlan:
    """Return PLAN when nothing can be done, because of ERROR."""
    return msgspec.structs.replace(
        plan, actions=(), refusal=error.message, hint=error.hint, strategy=None, reason=None
    )


def _require_networks(machine: VirtualMachine, observation: Observation) -> None:
    known = observation.host.networks
    if known is None:
        return
    for interface in machine.domain.networking:
        if interface.network not in known:
            there_are = f"there are: {', '.join(known)}" if known else "there is none at all"
            raise RequestRefusedError(
                f"network '{interface.network}' does not exist on {observation.uri}; {there_are}",
                hint="Declare one of those, or define it with 'virsh net-define'.",
            )


def _missing_pools(plan: MachinePlan, observation: Observation) -> Iterator[str]:
    """Yield the pool that PLAN makes volumes in, if the host does not have it."""
    known = observation.host.pools
    for action in plan.actions:
        if not isinstance(action, CreateRoot | CreateEmptyRoot | CreateDisk):
            continue
        if known is None or action.pool in known:
            continue
        if "/" in action.pool or action.pool in {".", ".."}:
            raise RequestRefusedError(
                f"pool '{action.pool}' does not exist on {observation.uri}, and a directory "
                "cannot have that name",
                hint="Declare a pool whose name is a file name.",
            )
        yield action.pool
