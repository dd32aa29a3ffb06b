# SPDX-License-Identifier: GPL-3.0-or-later
"""From a declaration and an observation to a plan: the smallest safe change; pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from pyguixvm.errors import PyguixvmError, RequestRefusedError, contained
from pyguixvm.model.applied import Generation, Metadata
from pyguixvm.model.declaration import ConsoleReady, VirtualMachine
from pyguixvm.model.observation import Observation, ObservedDomain
from pyguixvm.model.volume_names import free_number
from pyguixvm.plan.actions import (
    Action,
    AttachInterface,
    AwaitReady,
    DefineDomain,
    DetachDisk,
    DetachInterface,
    LiveAction,
    SetMemory,
    SetVcpus,
    StartDomain,
    StopDomain,
    UpdateInterface,
)
from pyguixvm.plan.difference import Difference, Effect
from pyguixvm.plan.disks import plug_actions, volume_actions
from pyguixvm.plan.drift import defined_memory, differences, foreign_devices
from pyguixvm.plan.interference import require_idle_disks
from pyguixvm.plan.ownership import (
    Owner,
    require_not_elsewhere,
    require_owned,
    taken_over,
    undeclared,
)
from pyguixvm.plan.plan import MachinePlan, Plan, Policy
from pyguixvm.plan.refusals import (
    declarers_of_addresses,
    owners_of_addresses,
    require_data_kept,
    require_free_data,
    require_no_other_name,
    require_ours,
    require_own_addresses,
    require_possible,
    require_replaceable,
    require_stoppable,
    require_takeable_back,
)
from pyguixvm.plan.strategies.choose import Bases, choose
from pyguixvm.plan.strategies.in_place import REASON, activation, as_done_in_place

_OFF = ("shut off", "crashed")
_ORDER: tuple[Effect, ...] = ("none", "live", "restart", "replace")
_ALLOW_ALL = Policy()
_NOBODY = Owner()


def plan(
    machines: Iterable[VirtualMachine],
    observation: Observation,
    *,
    policy: Policy = _ALLOW_ALL,
    config: str | None = None,
    owner: Owner = _NOBODY,
) -> Plan:
    """Return what makes the hypervisor of OBSERVATION match MACHINES, as POLICY allows.

    CONFIG is the file that declares MACHINES, if these are all of its machines, and OWNER
    the deployment.
    """
    machines = tuple(machines)
    owners = owners_of_addresses(observation)
    declarers = declarers_of_addresses(machines)
    bases = Bases(observation)
    return Plan(
        uri=observation.uri,
        machines=tuple(
            _planned(machine, observation, owners, declarers, bases, policy, owner)
            for machine in machines
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
) -> MachinePlan:
    """Return the plan for MACHINE; what cannot even be planned is left alone, and says why."""
    try:
        return _plan_machine(machine, observation, owners, declarers, bases, policy, owner)
    except Exception as error:  # noqa: BLE001 -- one's trouble is its own
        return _refused(machine, "none", contained(error))


def _plan_machine(  # noqa: PLR0917 -- one machine, what there is, and what is allowed
    machine: VirtualMachine,
    observation: Observation,
    owners: Mapping[str, ObservedDomain],
    declarers: Mapping[str, str],
    bases: Bases,
    policy: Policy,
    owner: Owner,
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
            require_data_kept(machine, None, observation)
    except RequestRefusedError as error:
        return _refused(machine, "none", error)
    if domain is None or metadata is None:
        return _create(machine, volumes, bases, policy)
    changed = (*differences(machine, domain), *taken_over(metadata, owner))
    try:
        require_data_kept(machine, domain, observation)
    except RequestRefusedError as error:
        return _refused(machine, "none", error, changed)
    if _strongest(changed) != "replace":
        made = _update(machine, domain, metadata, volumes, changed, policy)
    elif policy.strategy == "in-place":
        made = _change_in_place(machine, domain, metadata, volumes, changed, policy)
    else:
        made = _replace(machine, domain, metadata, volumes, bases, changed, policy)
    try:
        if made.actions:
            require_idle_disks(domain)
    except RequestRefusedError as error:
        return _refused(machine, made.effect, error, changed)
    return made


def _strongest(changed: Iterable[Difference]) -> Effect:
    return max((d.effect for d in changed), key=_ORDER.index, default="none")


def _next_number(machine: str, volumes: Collection[str], metadata: Metadata | None = None) -> int:
    """Return a number that no volume of MACHINE has: one that was kept is never overwritten.

    Nor is one that METADATA knows and that is marked as incomplete still.
    """
    if metadata is None:
        return free_number(machine, volumes)
    return free_number(machine, {*volumes, *metadata.volumes}, metadata.numbers)


def _create(
    machine: VirtualMachine, volumes: Collection[str], bases: Bases, policy: Policy
) -> MachinePlan:
    generation = _next_number(machine.name, volumes)
    try:
        way = choose(machine, generation, bases, policy.strategy)
    except RequestRefusedError as error:
        return _refused(machine, "create", error)
    return MachinePlan(
        machine=machine,
        effect="create",
        actions=(
            *way.actions,
            *volume_actions(machine, None, volumes),
            _define(machine, generation),
            _start(machine),
        ),
        strategy=way.strategy,
        reason=way.reason,
    )


def _refused(
    machine: VirtualMachine,
    effect: Effect,
    error: PyguixvmError,
    changed: tuple[Difference, ...] = (),
) -> MachinePlan:
    return MachinePlan(
        machine=machine,
        effect=effect,
        differences=changed,
        refusal=error.message,
        hint=error.hint,
    )


def _replace(  # noqa: PLR0917 -- what there is, what is wanted, and what is allowed
    machine: VirtualMachine,
    domain: ObservedDomain,
    metadata: Metadata,
    volumes: Collection[str],
    bases: Bases,
    changed: tuple[Difference, ...],
    policy: Policy,
) -> MachinePlan:
    """Plan a new root volume: made while the old one still runs."""
    running = domain.state not in _OFF
    generation = _next_number(machine.name, volumes, metadata)
    try:
        require_replaceable(machine, policy, running=running)
        way = choose(machine, generation, bases, policy.strategy)
    except RequestRefusedError as error:
        return _refused(machine, "replace", error, changed)
    return MachinePlan(
        machine=machine,
        effect="replace",
        actions=(
            *way.actions,
            *volume_actions(machine, domain, volumes),
            *_stop(running, policy),
            _define(machine, generation),
            _start(machine),
        ),
        differences=changed,
        # Without its volume there is nothing to go back to.
        fallback=None if domain.root_gone else proven(metadata),
        downtime=last_downtime(metadata.generations) if running else None,
        foreign=foreign_devices(machine, domain),
        strategy=way.strategy,
        reason=way.reason,
    )


def _change_in_place(  # noqa: PLR0917 -- what there is, what is wanted, and what is allowed
    machine: VirtualMachine,
    domain: ObservedDomain,
    metadata: Metadata,
    volumes: Collection[str],
    changed: tuple[Difference, ...],
    policy: Policy,
) -> MachinePlan:
    """Plan another operating system in the guest that runs."""
    generation = _next_number(machine.name, volumes, metadata)
    stop = next(iter(_stop(policy.restart, policy)), None)
    try:
        require_takeable_back(machine, policy)
        steps = activation(machine, domain, metadata, generation, changed, restart=stop)
    except RequestRefusedError as error:
        return _refused(machine, "live", error, changed)
    live = tuple(_live_actions(changed, domain))
    return MachinePlan(
        machine=machine,
        effect="live",
        actions=(
            *steps,
            # That the system was activated is worth knowing before anything else fails.
            _define(machine, generation),
            *(action for action in live if isinstance(action, DetachInterface)),
            *(action for action in live if not isinstance(action, DetachInterface)),
            AwaitReady(timeout=machine.ready_timeout),
        ),
        differences=as_done_in_place(changed),
        # That it lets us in proves more than an earlier look, unless nobody knows what it is.
        fallback=proven(metadata) if metadata.generation.changing else metadata.current,
        foreign=foreign_devices(machine, domain),
        strategy="in-place",
        reason=REASON,
    )


def _update(  # noqa: PLR0917 -- what there is, what is wanted, and what is allowed
    machine: VirtualMachine,
    domain: ObservedDomain,
    metadata: Metadata,
    volumes: Collection[str],
    changed: tuple[Difference, ...],
    policy: Policy,
) -> MachinePlan:
    """Plan what leaves the root volume as it is."""
    off = domain.state in _OFF
    unproven = metadata.fallback is not None
    # What a guest said on its console while nobody listened is lost.
    unheard = unproven and any(isinstance(form, ConsoleReady) for form in machine.ready)
    restart = (
        not off and policy.restart and (unheard or any(d.effect == "restart" for d in changed))
    )
    if restart:
        try:
            require_stoppable(machine, policy)
        except RequestRefusedError as error:
            return _refused(machine, "restart", error, changed)
    actions: list[Action] = list(volume_actions(machine, domain, volumes))
    if restart:
        # Defined after that: a guest that does not stop goes on as it was, defined so.
        actions += _stop(True, policy)
    live = (
        () if off or restart else (*_live_actions(changed, domain), *plug_actions(machine, domain))
    )
    # First: what is plugged in then may get its place, and what the guest does not let go
    # of is still known to be ours, since it is defined.
    actions += (action for action in live if isinstance(action, DetachInterface | DetachDisk))
    if any(not difference.pending for difference in changed):
        actions.append(_define(machine, metadata.current))
    actions += (action for action in live if not isinstance(action, DetachInterface | DetachDisk))
    if off or restart:
        actions.append(_start(machine))
    elif unproven and not unheard:
        actions.append(AwaitReady(timeout=machine.ready_timeout))
    effect = _strongest(changed)
    return MachinePlan(
        machine=machine,
        effect="restart" if restart else "live" if effect == "none" and actions else effect,
        actions=tuple(actions),
        differences=changed,
        fallback=metadata.fallback,
        downtime=last_downtime(metadata.generations) if restart else None,
        foreign=foreign_devices(machine, domain),
    )


def _define(machine: VirtualMachine, generation: int) -> DefineDomain:
    return DefineDomain(generation=generation, autostart=machine.domain.autostart)


def _stop(running: bool, policy: Policy) -> tuple[StopDomain, ...]:
    return (policy.stop(),) if running else ()


def _start(machine: VirtualMachine) -> StartDomain:
    return StartDomain(timeout=machine.ready_timeout)


def _live_actions(changed: tuple[Difference, ...], domain: ObservedDomain) -> Iterator[LiveAction]:
    """Yield what brings the running guest to what is defined."""
    live = domain.live
    if live is None:
        return
    present = {i.mac_address for i in live.interfaces}
    for difference in changed:
        if difference.effect != "live":
            continue
        match difference.path.split("."):
            case ["domain", "memory"] if isinstance(difference.new, int):
                if defined_memory(difference.new) != live.memory:
                    yield SetMemory(memory=difference.new)
            case ["domain", "cpu"] if isinstance(difference.new, int):
                if difference.new != live.cpu:
                    yield SetVcpus(cpu=difference.new)
            case ["domain", "networking", mac]:
                yield from _interface_action(mac, difference.new, present)


def _interface_action(mac: str, wanted: object, present: set[str]) -> Iterator[LiveAction]:
    if wanted == "absent":
        if mac in present:
            yield DetachInterface(mac_address=mac)
    elif mac in present:
        yield UpdateInterface(mac_address=mac)
    else:
        yield AttachInterface(mac_address=mac)


def proven(metadata: Metadata) -> int:
    """Return the newest generation known to get ready, to which a change can be taken back."""
    return metadata.current if metadata.fallback is None else metadata.fallback


def last_downtime(generations: Iterable[Generation]) -> float | None:
    """Return how long (seconds) the last switch took, if there was any."""
    known = [g.downtime for g in generations if g.downtime is not None]
    return known[-1] if known else None
