# SPDX-License-Identifier: GPL-3.0-or-later
"""Which change of the operating system a running guest can follow in place; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

import msgspec

from pyguixvm.errors import RequestRefusedError
from pyguixvm.model.applied import Metadata
from pyguixvm.model.declaration import SystemImage, VirtualMachine
from pyguixvm.model.difference import Difference
from pyguixvm.model.observation import ObservedDomain
from pyguixvm.model.volume_names import generation_volume
from pyguixvm.plan.actions import ActivateSystem, PrepareSystem, StackRoot, StopDomain

REASON = "asked for: the guest keeps its state"
_HINT = (
    "Deploy with --strategy auto for a new root volume; that loses what the guest keeps on its root"
)

# What follows from the operating system alone.  Not its image's type or file system.
_SYSTEM = frozenset(
    f"image.{field}" for field in ("host-name", "label", "kernel", "derivation", "output", "system")
) | {"domain.kernel-arguments", "activation"}
# Each change puts a volume on top, which makes reading slower; libvirt follows 200.
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
) -> tuple[PrepareSystem, StackRoot, ActivateSystem]:
    """Return what makes generation NUMBER of MACHINE in its running guest.

    RESTART is how to stop it if need be.  Raises RequestRefusedError if CHANGED is
    not for a running guest.
    """
    image = machine.image
    root_uuid = metadata.generation.root_uuid
    if not isinstance(image, SystemImage) or image.content is None or root_uuid is None:
        raise RequestRefusedError(
            f"'{machine.name}' cannot be changed in place: its root is not made of an "
            "operating-system alone",
            hint=f"{_HINT}.",
        )
    if domain.state != "running":
        how = f"pyguixvm start {machine.name}" if domain.live is None else "virsh resume"
        raise RequestRefusedError(
            f"'{machine.name}' cannot be changed in place: it is {domain.state}",
            hint=f"Have it run with '{how}', and deploy again.  {_HINT}.",
        )
    if domain.checkpoints:
        raise RequestRefusedError(
            f"'{machine.name}' cannot be changed in place: it has a checkpoint, "
            f"'{domain.checkpoints[-1]}', and libvirt puts no volume on top then",
            hint=f"Delete it with 'virsh checkpoint-delete {machine.name} "
            f"{domain.checkpoints[-1]}'.  {_HINT}.",
        )
    if len(metadata.generation.under) >= _MOST_VOLUMES:
        raise RequestRefusedError(
            f"'{machine.name}' cannot be changed in place any more: its root stands on "
            f"{_MOST_VOLUMES} volumes of earlier changes",
            hint=f"{_HINT}.",
        )
    others = ", ".join(_others(changed, stacked=_writes_below(domain, metadata)))
    if others:
        raise RequestRefusedError(
            f"'{machine.name}' cannot be changed in place: {others} changed, too",
            hint=f"Leave that as it was, or deploy it first.  {_HINT}.",
        )
    system = image.content.system.derivation
    volume = generation_volume(machine.name, number)
    return (
        PrepareSystem(system=system, root_uuid=root_uuid),
        StackRoot(generation=number, volume=volume, image=metadata.generation.image),
        ActivateSystem(system=system, root_uuid=root_uuid, restart=restart),
    )


def _writes_below(domain: ObservedDomain, metadata: Metadata) -> bool:
    """Whether the guest still writes to what its root stands on.

    A change was ended between definition and switch.  The root is empty then: another one
    on top of it shows the guest what it has.
    """
    disks = {PurePosixPath(disk).name for disk in domain.live.disks} if domain.live else set()
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
