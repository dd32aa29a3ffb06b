# SPDX-License-Identifier: GPL-3.0-or-later
"""Which change of the operating system a running guest can follow in place; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, TypeAlias

import msgspec

from pyguixvm.advice import words
from pyguixvm.errors import RequestRefusedError
from pyguixvm.model.applied import Generation, Metadata
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.model.difference import Difference
from pyguixvm.model.image import SystemImage
from pyguixvm.model.observation import ObservedDomain
from pyguixvm.model.unreactive import awakening
from pyguixvm.model.volume_names import file_name, generation_volume
from pyguixvm.plan.actions import (
    ActivateSystem,
    KeepLayer,
    PrepareSystem,
    StackRoot,
    StopDomain,
)
from pyguixvm.plan.layers import superfluous

# What reaches the guest.
By: TypeAlias = Literal["ssh", "agent"]

REASON = "asked for: the guest keeps its state"
REASON_PREFERRED = "a guest that runs can follow this: it keeps its state"
_HINT = (
    "Deploy with --strategy auto for a new root volume; that loses what the guest keeps on its root"
)

# What follows from the operating system alone.  Not its image's type or file system.
_SYSTEM = frozenset(
    f"image.{field}" for field in ("host-name", "label", "kernel", "derivation", "output", "system")
) | {"domain.kernel-arguments", "activation"}
# Each change puts a volume on top; those that cannot be merged are no more than that.
_MOST_VOLUMES = 50
# What has to be there, or go, before a system that mounts it, or does no longer.
_MOUNTED = ("domain.disks", "domain.mount-points")


def activation(
    machine: VirtualMachine,
    domain: ObservedDomain,
    metadata: Metadata,
    number: int,
    changed: Iterable[Difference],
    *,
    restart: StopDomain | None,
    by: By = "ssh",
) -> tuple[PrepareSystem, StackRoot | KeepLayer, ActivateSystem]:
    """Return what makes generation NUMBER of MACHINE in its running guest.

    RESTART is how to stop it if need be, BY what reaches it.  If NUMBER is that of the
    current generation, it stays on the volume that it has, see `layer_bottom`.  Raises
    RequestRefusedError if CHANGED is not for a running guest.
    """
    image = machine.image
    root_uuid = metadata.generation.root_uuid
    if not isinstance(image, SystemImage) or image.content is None or root_uuid is None:
        raise _refused(machine, by, "its root is not made of an operating-system alone")
    kept = number == metadata.current
    _require_changeable(machine, domain, by)
    if not kept:
        _require_stackable(machine, domain, metadata, number, by)
    changed = tuple(changed)
    found = (*_others(changed, stacked=_writes_below(domain, metadata)),)
    if found:
        raise _refused(
            machine,
            by,
            f"{', '.join(found)} changed, too",
            "Leave that as it was, or deploy it first.  ",
        )
    system = image.content.system.derivation
    volume = generation_volume(machine.name, number)
    return (
        PrepareSystem(system=system, root_uuid=root_uuid, by=by),
        KeepLayer(generation=number)
        if kept
        else StackRoot(generation=number, volume=volume, image=metadata.generation.image),
        ActivateSystem(system=system, root_uuid=root_uuid, restart=restart),
    )


def layer_bottom(domain: ObservedDomain, metadata: Metadata, since: str) -> Generation | None:
    """Return the generation that the current one of METADATA can be taken back to as it is.

    That is the one on whose volume its own was put when the guest was changed, SINCE then
    (UTC in ISO 8601).  None if there is no such: another change of DOMAIN takes a volume of
    its own then.
    """
    current = metadata.generation
    disks = {file_name(disk) for disk in domain.live.disks} if domain.live else set()
    if current.failed or current.volume not in disks or not since <= current.date:
        return None
    for each in metadata.generations:
        if current.under[:1] == (each.volume,) and each.pool == current.pool and not each.failed:
            return each
    return None


def _require_changeable(machine: VirtualMachine, domain: ObservedDomain, by: By) -> None:
    """Raise RequestRefusedError unless there is a guest of DOMAIN to change."""
    if domain.state != "running":
        how = awakening(machine.name, domain.state)
        first = f"Have it run with '{how}', and deploy again.  "
        raise _refused(machine, by, f"it is {domain.state}", first)


def _require_stackable(
    machine: VirtualMachine, domain: ObservedDomain, metadata: Metadata, number: int, by: By
) -> None:
    """Raise RequestRefusedError unless the guest of DOMAIN can get a volume on its root.

    That is the volume of generation NUMBER.
    """
    if domain.checkpoints:
        checkpoint = domain.checkpoints[-1]
        raise _refused(
            machine,
            by,
            f"it has a checkpoint, '{checkpoint}', and libvirt puts no volume on top then",
            f"Delete it with 'virsh checkpoint-delete {words(machine.name, checkpoint)}'.  ",
        )
    added = generation_volume(machine.name, number)
    many = len(metadata.generation.under) >= _MOST_VOLUMES
    if many and superfluous(domain, metadata, added, (number, metadata.current)) is None:
        raise _refused(
            machine,
            by,
            f"its root stands on {_MOST_VOLUMES} volumes of earlier changes, and other "
            "generations, or snapshots, on these",
            "Let go of what is not needed any more with 'pyguixvm gc'.  ",
        )


def _refused(machine: VirtualMachine, by: By, why: str, first: str = "") -> RequestRefusedError:
    how = "live" if by == "agent" else "in place"
    return RequestRefusedError(
        f"'{machine.name}' cannot be changed {how}: {why}", hint=f"{first}{_HINT}."
    )


def _writes_below(domain: ObservedDomain, metadata: Metadata) -> bool:
    """Whether the guest still writes to what its root stands on.

    A change was ended between definition and switch.  The root is empty then: another one
    on top of it shows the guest what it has.
    """
    disks = {file_name(disk) for disk in domain.live.disks} if domain.live else set()
    return not disks.isdisjoint(metadata.generation.under)


def _others(changed: Iterable[Difference], *, stacked: bool) -> Iterator[str]:
    """Yield what of CHANGED does not go with a change in place; STACKED allows another root."""
    for difference in changed:
        if difference.path in _SYSTEM or (stacked and difference.path == "root"):
            continue
        if difference.effect != "live" or difference.path.startswith(_MOUNTED):
            yield difference.path


def as_done_in_place(changed: Iterable[Difference]) -> tuple[Difference, ...]:
    """Return CHANGED with the effect that it has in place: none on the root volume."""
    return tuple(
        msgspec.structs.replace(difference, effect="live")
        if difference.path in _SYSTEM or difference.path == "root"
        else difference
        for difference in changed
    )
