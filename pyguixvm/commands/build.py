# SPDX-License-Identifier: GPL-3.0-or-later
"""What Guix is to build, all in one run, and kept from its garbage collector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pyguixvm.commands.session import Session
from pyguixvm.events import phase
from pyguixvm.guix.roots import system_root
from pyguixvm.guix.store import Store
from pyguixvm.model.declaration import (
    Deployment,
    SharedStore,
    SystemImage,
    VirtualMachine,
)
from pyguixvm.model.volume_names import generation_of, is_store_item
from pyguixvm.plan.actions import (
    CreateEmptyRoot,
    CreateRoot,
    StackRoot,
)
from pyguixvm.plan.plan import Plan
from pyguixvm.plan.strategies.choose import realizations


def build(session: Session, deployment: Deployment) -> tuple[tuple[VirtualMachine, str], ...]:
    """Build the images that DEPLOYMENT declares; return each machine with its image's file name.

    Raises BuildError.
    """
    images = [machine.image for machine in deployment.machines]
    outputs = {
        image.derivation: image.output
        for image in images
        if isinstance(image, SystemImage) and image.derivation and image.output
    }
    realize(session, outputs, {})
    return tuple(
        (machine, image.file)
        for machine, image in zip(deployment.machines, images, strict=True)
        if not isinstance(image, SharedStore)
    )


def realize(session: Session, outputs: Mapping[str, str], roots: Mapping[Path, str]) -> None:
    """Build what is not there yet, all in one run of Guix, before anything is touched."""
    if not outputs and not roots:
        return
    with phase(session.emit, "build") as result:
        built = session.store.realize(outputs, roots)
        result.detail = " ".join(outputs.values()) if built and outputs else "nothing to build"


def realize_plans(session: Session, plans: Sequence[Plan]) -> None:
    """Build what PLANS need, and protect it from Guix's garbage collector."""
    outputs: dict[str, str] = {}
    roots: dict[Path, str] = {}
    for plan in plans:
        for machine in plan.machines:
            outputs.update(realizations(machine.actions))
            for action in machine.actions:
                if isinstance(action, CreateRoot | CreateEmptyRoot | StackRoot):
                    roots.update(_roots(session.store, plan.uri, action))
    realize(session, outputs, roots)


def _roots(
    store: Store, uri: str, action: CreateRoot | CreateEmptyRoot | StackRoot
) -> Iterator[tuple[Path, str]]:
    """Yield the GC roots of the generation whose root volume ACTION makes, and their items."""
    named = generation_of(action.volume)
    item = action.system if isinstance(action, CreateEmptyRoot) else action.image
    if named is None or not is_store_item(item):
        return
    root = store.root(uri, *named)
    yield root, item
    if isinstance(action, CreateRoot) and action.content is not None:
        yield system_root(root), action.content.system.output
