# SPDX-License-Identifier: GPL-3.0-or-later
"""From a declaration and an observation to a plan; pure."""

from __future__ import annotations

from collections.abc import Iterable

from pyguixvm.model.deployment import LocalImage, SystemImage, VirtualMachine
from pyguixvm.model.names import generation_of, generation_volume
from pyguixvm.model.observation import Observation, ObservedDomain
from pyguixvm.reconcile.differences import differences
from pyguixvm.reconcile.plan import (
    Action,
    CreateRoot,
    DefineDomain,
    MachinePlan,
    Plan,
    RealizeImage,
    StartDomain,
)


def plan(machines: Iterable[VirtualMachine], observation: Observation) -> Plan:
    """Return what makes the hypervisor of OBSERVATION match MACHINES."""
    return Plan(
        uri=observation.uri,
        machines=tuple(
            _plan_machine(machine, observation.domains.get(machine.name), observation.volumes)
            for machine in machines
        ),
    )


def _plan_machine(
    machine: VirtualMachine, domain: ObservedDomain | None, volumes: Iterable[str]
) -> MachinePlan:
    if domain is None:
        return _create(machine, _next_number(machine.name, volumes))
    if domain.unreadable is not None:
        return MachinePlan(machine=machine, effect="none", refusal=domain.unreadable)
    if domain.metadata is None:
        return MachinePlan(
            machine=machine,
            effect="none",
            refusal=f"a domain named '{machine.name}' exists that pyguixvm did not make",
            hint="Nothing was done to it. Declare another name, or remove that domain yourself.",
        )
    changed = differences(domain.metadata.generation.declaration, machine)
    if changed:
        return MachinePlan(
            machine=machine,
            effect="replace",
            differences=changed,
            refusal=f"'{machine.name}' is deployed and its declaration has changed, "
            "which cannot be applied in place yet",
            hint=f"To replace the machine and everything on its disk: "
            f"pyguixvm undefine {machine.name} && pyguixvm deploy",
        )
    if domain.state in ("shut off", "crashed"):
        return MachinePlan(
            machine=machine, effect="live", actions=(StartDomain(timeout=machine.ready_timeout),)
        )
    return MachinePlan(machine=machine, effect="none")


def _next_number(machine: str, volumes: Iterable[str]) -> int:
    """Return a number that no volume of MACHINE has: one that was kept is never overwritten."""
    named = (generation_of(volume) for volume in volumes)
    return 1 + max((found[1] for found in named if found and found[0] == machine), default=0)


def new_root_action(machine: VirtualMachine, generation: int = 1) -> CreateRoot:
    """Return the action that makes the root volume of generation number GENERATION of MACHINE."""
    image = machine.image
    return CreateRoot(
        pool=machine.domain.pool,
        volume=generation_volume(machine.name, generation),
        image=image.path if isinstance(image, LocalImage) else image.output or "",
        size=machine.domain.storage,
    )


def _create(machine: VirtualMachine, generation: int) -> MachinePlan:
    actions: list[Action] = []
    match machine.image:
        case SystemImage(derivation=str(derivation), output=str(output)):
            actions.append(RealizeImage(derivation=derivation, output=output))
        case SystemImage():
            raise ValueError("a plan needs an evaluation with image derivations")
    actions += [
        new_root_action(machine, generation),
        DefineDomain(generation=generation, autostart=machine.domain.autostart),
        StartDomain(timeout=machine.ready_timeout),
    ]
    return MachinePlan(machine=machine, effect="create", actions=tuple(actions))
