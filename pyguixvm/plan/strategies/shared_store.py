# SPDX-License-Identifier: GPL-3.0-or-later
"""A root for an operating system that runs from the store of its host; pure."""

from __future__ import annotations

from pyguixvm.errors import RequestRefusedError
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.model.image import SharedStore
from pyguixvm.model.observation import Observation
from pyguixvm.model.volume_names import generation_volume
from pyguixvm.plan.actions import Action, CreateEmptyRoot, RealizeSystem

_OTHERWISE = "Deploy without --strategy shared-store."


def require_shareable(machine: VirtualMachine, observation: Observation) -> None:
    """Raise RequestRefusedError if MACHINE cannot run from the store of its hypervisor's host."""
    if not isinstance(machine.image, SharedStore):
        raise _refused(machine, "it is declared with a disk image that is there already")
    if machine.domain.firmware == "uefi":
        raise _refused(
            machine,
            "the hypervisor itself starts the kernel, and it is declared with (firmware 'uefi)",
        )
    if not observation.local:
        raise _refused(machine, f"the hypervisor at {observation.uri} is another machine")
    if observation.store == "absent":
        raise _refused(machine, "this machine has no /gnu/store that can be read")
    if observation.store == "writable":
        raise _refused(
            machine,
            "/gnu/store is writable here: libvirt would give the kernel in it to QEMU's user",
            "Mount it read-only, as Guix System and the unit gnu-store.mount do.",
        )


def _refused(machine: VirtualMachine, why: str, hint: str = _OTHERWISE) -> RequestRefusedError:
    return RequestRefusedError(
        f"'{machine.name}' cannot run from the shared store: {why}", hint=hint
    )


def shared_root(machine: VirtualMachine, image: SharedStore, number: int) -> tuple[Action, ...]:
    """Return what makes root volume NUMBER of MACHINE, and what it runs."""
    system = image.system
    if system is None:
        raise ValueError("a plan needs an evaluation with systems")
    return (
        RealizeSystem(derivation=system.derivation, output=system.output),
        CreateEmptyRoot(
            pool=machine.domain.pool,
            volume=generation_volume(machine.name, number),
            size=machine.domain.storage,
            label=image.root_label,
            system=system.output,
        ),
    )
