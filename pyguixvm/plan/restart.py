# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether what leaves the root volume as it is takes a restart, or is done live; pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from pyguixvm.errors import RequestRefusedError
from pyguixvm.model.applied import Metadata
from pyguixvm.model.declaration import ConsoleReady, VirtualMachine
from pyguixvm.model.difference import Difference
from pyguixvm.model.observation import ObservedDomain
from pyguixvm.model.unreactive import stays
from pyguixvm.plan.actions import (
    Action,
    AttachInterface,
    AwaitReady,
    DetachDisk,
    DetachInterface,
    LiveAction,
    SetMemory,
    SetVcpus,
    UpdateInterface,
)
from pyguixvm.plan.disks import plug_actions, volume_actions
from pyguixvm.plan.drift import defined_memory, foreign_devices
from pyguixvm.plan.plan import MachinePlan, Policy
from pyguixvm.plan.readiness import only_speaks
from pyguixvm.plan.refusals import require_stoppable
from pyguixvm.plan.steps import define, last_downtime, refused, start, stop, strongest


def restart_or_live(  # noqa: PLR0917 -- what there is, what is wanted, and what is allowed
    machine: VirtualMachine,
    domain: ObservedDomain,
    metadata: Metadata,
    volumes: Collection[str],
    changed: tuple[Difference, ...],
    policy: Policy,
) -> MachinePlan:
    """Plan what leaves the root volume as it is."""
    off = domain.state == "shut off"
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
            return refused(machine, "restart", error, changed)
    actions: list[Action] = list(volume_actions(machine, domain, volumes))
    if restart:
        # Defined after that: a guest that does not stop goes on as it was, defined so.
        actions += stop(True, policy)
    live = (
        () if off or restart else (*live_actions(changed, domain), *plug_actions(machine, domain))
    )
    # First: what is plugged in then may get its place, and what the guest does not let go
    # of is still known to be ours, since it is defined.
    actions += (action for action in live if isinstance(action, DetachInterface | DetachDisk))
    # After a deploy that failed, the next one says how it ended, be there nothing left to do.
    last = metadata.generation.deploy
    failed = last is not None and last.failed
    if failed or any(not difference.pending for difference in changed):
        actions.append(define(machine, metadata.current))
    actions += (action for action in live if not isinstance(action, DetachInterface | DetachDisk))
    if off or restart:
        actions.append(start(machine))
    elif (unproven and not unheard) or (metadata.generation.unseen and not only_speaks(machine)):
        actions.append(AwaitReady(timeout=machine.ready_timeout))
    effect = strongest(changed)
    return MachinePlan(
        machine=machine,
        effect="restart" if restart else "live" if effect == "none" and actions else effect,
        actions=tuple(actions),
        differences=changed,
        hint=None if restart else stays(domain.name, domain.state, domain.reason),
        fallback=metadata.fallback,
        downtime=last_downtime(metadata.generations) if restart else None,
        foreign=foreign_devices(machine, domain),
    )


def live_actions(changed: tuple[Difference, ...], domain: ObservedDomain) -> Iterator[LiveAction]:
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
