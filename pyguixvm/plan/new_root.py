# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines that get a new root volume, or another system on top of the one they have; pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import msgspec

from pyguixvm.errors import RequestRefusedError
from pyguixvm.model.applied import Metadata
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.model.difference import Difference
from pyguixvm.model.image import SystemImage
from pyguixvm.model.observation import Observation, ObservedDomain
from pyguixvm.model.volume_names import free_number, generation_volume
from pyguixvm.plan.actions import (
    AwaitReady,
    DetachInterface,
)
from pyguixvm.plan.disks import volume_actions
from pyguixvm.plan.drift import foreign_devices
from pyguixvm.plan.layers import superfluous, unfinished
from pyguixvm.plan.plan import MachinePlan, Policy
from pyguixvm.plan.refusals import (
    require_replaceable,
    require_takeable_back,
)
from pyguixvm.plan.restart import live_actions
from pyguixvm.plan.steps import (
    as_fast_as_allowed,
    define,
    last_downtime,
    proven,
    refused,
    start,
    stop,
)
from pyguixvm.plan.strategies.choose import choose
from pyguixvm.plan.strategies.in_place import (
    REASON,
    REASON_PREFERRED,
    By,
    activation,
    as_done_in_place,
    layer_bottom,
)
from pyguixvm.plan.strategies.increment import Bases


def next_number(machine: str, volumes: Collection[str], metadata: Metadata | None = None) -> int:
    """Return a number that no volume of MACHINE has: one that was kept is never overwritten.

    Nor is one that METADATA knows and that is marked as incomplete still.
    """
    if metadata is None:
        return free_number(machine, volumes)
    return free_number(machine, {*volumes, *metadata.volumes}, metadata.numbers)


def kept_state(metadata: Metadata, policy: Policy) -> Iterator[Difference]:
    """Yield what is not as a root would have it that POLICY asks for, be the system the same."""
    if policy.strategy in {"increment", "full"} and metadata.generation.pinned_uuid is not None:
        yield Difference(path="root", old="changed while it ran", new="fresh", effect="replace")


def create(
    machine: VirtualMachine, volumes: Collection[str], bases: Bases, policy: Policy
) -> MachinePlan:
    """Plan MACHINE where there is none of its name; VOLUMES are there, to stand on are BASES."""
    generation = next_number(machine.name, volumes)
    try:
        way = choose(machine, generation, bases, policy.strategy)
    except RequestRefusedError as error:
        return refused(machine, "create", error)
    return MachinePlan(
        machine=machine,
        effect="create",
        actions=(
            *way.actions,
            *volume_actions(machine, None, volumes),
            define(machine, generation),
            start(machine),
        ),
        strategy=way.strategy,
        reason=way.reason,
    )


def replace(  # noqa: PLR0917 -- what there is, what is wanted, and what is allowed
    machine: VirtualMachine,
    domain: ObservedDomain,
    metadata: Metadata,
    volumes: Collection[str],
    bases: Bases,
    changed: tuple[Difference, ...],
    policy: Policy,
) -> MachinePlan:
    """Plan a new root volume: made while the old one still runs."""
    running = domain.state != "shut off"
    generation = next_number(machine.name, volumes, metadata)
    try:
        require_replaceable(machine, policy, running=running)
        way = choose(machine, generation, bases, policy.strategy)
    except RequestRefusedError as error:
        return refused(machine, "replace", error, changed)
    return MachinePlan(
        machine=machine,
        effect="replace",
        actions=(
            *way.actions,
            *volume_actions(machine, domain, volumes),
            *(as_fast_as_allowed(each, policy) for each in stop(running, policy)),
            define(machine, generation),
            start(machine),
        ),
        differences=changed,
        # Without its volume there is nothing to go back to.
        fallback=None if domain.root_gone else proven(metadata),
        downtime=last_downtime(metadata.generations) if running else None,
        foreign=foreign_devices(machine, domain),
        strategy=way.strategy,
        reason=way.reason,
    )


def change_in_place(  # noqa: PLR0917 -- what there is, what is wanted, and what is allowed
    machine: VirtualMachine,
    domain: ObservedDomain,
    metadata: Metadata,
    observation: Observation,
    changed: tuple[Difference, ...],
    policy: Policy,
) -> MachinePlan:
    """Plan another operating system in the guest that runs."""
    by: By = "agent" if policy.strategy == "live" else "ssh"
    below = layer_bottom(domain, metadata, policy.since) if by == "agent" and policy.since else None
    if below is None:
        generation = next_number(machine.name, observation.volumes, metadata)
        # That it lets us in proves more than an earlier look, unless nobody knows what it is.
        fallback = proven(metadata) if metadata.generation.changing else metadata.current
    else:
        generation, fallback = metadata.current, below.number
    stopping = next(iter(stop(policy.restart, policy)), None)
    try:
        require_takeable_back(machine, policy)
        steps = activation(
            machine,
            domain,
            metadata,
            generation,
            changed,
            restart=stopping,
            by=by,
        )
    except RequestRefusedError as error:
        return refused(machine, "live", error, changed)
    live = tuple(live_actions(changed, domain))
    begun = unfinished(metadata)
    added = None if below else generation_volume(machine.name, generation)
    further = superfluous(domain, metadata, added, (generation, fallback))
    return MachinePlan(
        machine=machine,
        effect="live",
        actions=(
            # No volume is put on a root at which libvirt works.
            *([begun] if begun and added else []),
            *steps,
            # That the system was activated is worth knowing before anything else fails.
            define(machine, generation),
            *(action for action in live if isinstance(action, DetachInterface)),
            *(action for action in live if not isinstance(action, DetachInterface)),
            # What the guest was changed for is there by now.
            *([begun] if begun and not added else []),
            *([further] if further else []),
            AwaitReady(timeout=machine.ready_timeout),
        ),
        differences=as_done_in_place(changed),
        fallback=fallback,
        foreign=foreign_devices(machine, domain),
        strategy=policy.strategy,
        reason=REASON,
    )


def change_live_or_replace(  # noqa: PLR0917 -- what there is, what is wanted, and what is allowed
    machine: VirtualMachine,
    domain: ObservedDomain,
    metadata: Metadata,
    observation: Observation,
    bases: Bases,
    changed: tuple[Difference, ...],
    policy: Policy,
) -> MachinePlan:
    """Plan another operating system in the guest that runs, or else a new root volume."""
    as_live = msgspec.structs.replace(policy, strategy="live")
    live = change_in_place(machine, domain, metadata, observation, changed, as_live)
    if live.refusal is None:
        return msgspec.structs.replace(live, reason=REASON_PREFERRED)
    made = replace(machine, domain, metadata, observation.volumes, bases, changed, policy)
    if domain.state == "shut off" or not isinstance(machine.image, SystemImage):
        # Nobody expects that a guest is changed which does not run.
        return made
    reason = "; ".join(filter(None, (live.refusal, made.reason)))
    return msgspec.structs.replace(made, reason=reason)
