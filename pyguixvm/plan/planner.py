# SPDX-License-Identifier: GPL-3.0-or-later
"""From a declaration and an observation to a plan: the smallest safe change; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pyguixvm.errors import RequestRefusedError, contained
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.model.observation import Observation, ObservedDomain
from pyguixvm.model.provenance import Ancestry
from pyguixvm.plan.downgrade import require_forward
from pyguixvm.plan.drift import differences
from pyguixvm.plan.foreseen import foreseen
from pyguixvm.plan.interference import require_at_home, require_idle_disks, require_no_memory
from pyguixvm.plan.new_root import (
    change_in_place,
    change_live_or_replace,
    create,
    kept_state,
    replace,
)
from pyguixvm.plan.ownership import (
    Owner,
    require_not_elsewhere,
    require_owned,
    taken_over,
    undeclared,
)
from pyguixvm.plan.plan import CHANGING_GUESTS, MachinePlan, Plan, Policy
from pyguixvm.plan.refusals import (
    declarers_of_addresses,
    owners_of_addresses,
    require_alive,
    require_data_kept,
    require_free_data,
    require_no_other_name,
    require_ours,
    require_own_addresses,
    require_possible,
)
from pyguixvm.plan.restart import restart_or_live
from pyguixvm.plan.steps import refused, strongest
from pyguixvm.plan.strategies.increment import Bases

_ALLOW_ALL = Policy()


_NOBODY = Owner()
_NO_ANCESTRY = Ancestry()


def plan(
    machines: Iterable[VirtualMachine],
    observation: Observation,
    *,
    policy: Policy = _ALLOW_ALL,
    config: str | None = None,
    owner: Owner = _NOBODY,
    ancestry: Ancestry = _NO_ANCESTRY,
    only: str | None = None,
) -> Plan:
    """Return what makes the hypervisor of OBSERVATION match MACHINES, as POLICY allows.

    CONFIG is the file that declares MACHINES, if these are all of its machines, and OWNER
    the deployment.  ANCESTRY tells which commits are older than others.  ONLY is the machine
    to plan for, beside the others, instead of all.
    """
    machines = tuple(machines)
    owners = owners_of_addresses(observation)
    declarers = declarers_of_addresses(machines)
    bases = Bases(observation)
    return Plan(
        uri=observation.uri,
        machines=tuple(
            _planned(machine, observation, owners, declarers, bases, policy, owner, ancestry)
            for machine in machines
            if only in {None, machine.name}
        ),
        config=config,
        deployment=owner.name,
        undeclared=tuple(undeclared(machines, observation, owner)),
    )


def _planned(  # noqa: PLR0917 -- as for `_plan_machine`
    machine: VirtualMachine,
    observation: Observation,
    owners: Mapping[str, ObservedDomain],
    declarers: Mapping[str, str],
    bases: Bases,
    policy: Policy,
    owner: Owner,
    ancestry: Ancestry,
) -> MachinePlan:
    """Return the plan for MACHINE; what cannot even be planned is left alone, and says why."""
    try:
        made = _plan_machine(
            machine, observation, owners, declarers, bases, policy, owner, ancestry
        )
        return foreseen(made, observation)
    except Exception as error:  # noqa: BLE001 -- one's trouble is its own
        return refused(machine, "none", contained(error))


def _plan_machine(  # noqa: PLR0917 -- one machine, what there is, and what is allowed
    machine: VirtualMachine,
    observation: Observation,
    owners: Mapping[str, ObservedDomain],
    declarers: Mapping[str, str],
    bases: Bases,
    policy: Policy,
    owner: Owner,
    ancestry: Ancestry,
) -> MachinePlan:
    domain, volumes = observation.domains.get(machine.name), observation.volumes
    try:
        require_possible(machine, observation, policy)
        require_no_other_name(machine, observation)
        require_own_addresses(machine, owners, declarers)
        if domain is None:
            require_not_elsewhere(machine, observation.uri, owner)
        require_free_data(machine, observation)
        metadata = None if domain is None else require_ours(machine, domain)
        if metadata is not None:
            require_owned(machine, metadata, owner)
        else:
            require_data_kept(machine, None, observation, owner.name)
    except RequestRefusedError as error:
        return refused(machine, "none", error)
    if domain is None or metadata is None:
        return create(machine, volumes, bases, policy)
    changed = (
        *differences(machine, domain),
        *taken_over(metadata, owner),
        *kept_state(metadata, policy),
    )
    try:
        require_data_kept(machine, domain, observation, owner.name)
    except RequestRefusedError as error:
        return refused(machine, "none", error, changed)
    if strongest(changed) != "replace":
        made = restart_or_live(machine, domain, metadata, volumes, changed, policy)
    elif policy.strategy in CHANGING_GUESTS:
        made = change_in_place(machine, domain, metadata, observation, changed, policy)
    elif policy.prefer_live and policy.strategy == "auto":
        made = change_live_or_replace(
            machine, domain, metadata, observation, bases, changed, policy
        )
    else:
        made = replace(machine, domain, metadata, volumes, bases, changed, policy)
    try:
        if made.actions:
            require_at_home(domain)
            require_no_memory(domain)
            require_idle_disks(domain)
        require_alive(domain, made)
        require_forward(made, metadata, ancestry, policy)
    except RequestRefusedError as error:
        return refused(machine, made.effect, error, changed)
    return made
