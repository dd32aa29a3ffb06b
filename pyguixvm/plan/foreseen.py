# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plan would come upon on the hypervisor; pure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from shlex import quote

import msgspec

from pyguixvm.advice import words
from pyguixvm.errors import PyguixvmError, RequestRefusedError
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.model.observation import Observation
from pyguixvm.model.volume_names import data_volume
from pyguixvm.plan.actions import (
    Action,
    CreateDisk,
    CreateEmptyRoot,
    CreateRoot,
    DefineDomain,
    FetchImage,
    StartDomain,
)
from pyguixvm.plan.disks import all_disks, data_disks
from pyguixvm.plan.plan import MachinePlan


def foreseen(plan: MachinePlan, observation: Observation) -> MachinePlan:
    """Return PLAN with the pool that it makes, or refused if it would be stopped half-way.

    It would be where it needs a network that the host of OBSERVATION lacks, a pool that cannot
    be made there, or one that was there, and is not any more.  What that host is to fetch
    itself is marked.
    """
    try:
        if any(isinstance(action, DefineDomain | StartDomain) for action in plan.actions):
            _require_networks(plan.machine, observation)
        if any(isinstance(action, DefineDomain) for action in plan.actions):
            _require_own_pool(plan, observation)
        missing = next(_missing_pools(plan, observation), None)
    except RequestRefusedError as error:
        return refused(plan, error)
    if observation.shell:
        actions = tuple(map(_fetched_there, plan.actions))
        plan = msgspec.structs.replace(plan, actions=actions)
    return plan if missing is None else msgspec.structs.replace(plan, new_pool=missing)


def refused(plan: MachinePlan, error: PyguixvmError) -> MachinePlan:
    """Return PLAN when nothing can be done, because of ERROR."""
    return msgspec.structs.replace(
        plan, actions=(), refusal=error.message, hint=error.hint, strategy=None, reason=None
    )


def _fetched_there(action: Action) -> Action:
    """Return ACTION such that an image which it fetches is fetched by the hypervisor, too."""
    return msgspec.structs.replace(action, there=True) if isinstance(action, FetchImage) else action


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


def _require_own_pool(plan: MachinePlan, observation: Observation) -> None:
    """Raise if the machine of PLAN keeps volumes that are in a pool which somebody undefined."""
    known, domain = observation.host.pools, observation.domains.get(plan.machine.name)
    if known is None or domain is None or domain.metadata is None:
        return
    pool = domain.metadata.generation.pool
    if pool in known:
        return
    root = domain.metadata.generation.volume
    places = {PurePosixPath(file).name: PurePosixPath(file).parent for file in all_disks(domain)}
    replaced = any(isinstance(action, CreateRoot | CreateEmptyRoot) for action in plan.actions)
    kept = {data_volume(plan.machine.name, disk.name) for disk in data_disks(plan.machine)}
    kept = {volume for volume in kept if places.get(volume) == places.get(root)}
    kept |= set() if replaced else {root}
    if kept:
        directory = places.get(root, "DIRECTORY")
        raise RequestRefusedError(
            f"pool '{pool}', in which '{plan.machine.name}' has {', '.join(sorted(kept))}, does "
            f"not exist on {observation.uri} any more",
            hint="Nothing was done. What it held is there yet, unless somebody deleted that, "
            f"too: 'virsh pool-define-as --type dir --target {quote(str(directory))} "
            f"{words(pool)}' and 'virsh pool-start {words(pool)}' bring it back.",
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
