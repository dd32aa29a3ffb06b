# SPDX-License-Identifier: GPL-3.0-or-later
"""What Guix is to build, all in one run, and kept from its garbage collector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pyguixvm.commands.session import Session
from pyguixvm.events import phase
from pyguixvm.guix.made_images import MadeImages
from pyguixvm.guix.roots import Roots
from pyguixvm.model.declaration import Deployment, VirtualMachine
from pyguixvm.model.image import SharedStore, SystemImage
from pyguixvm.model.volume_names import is_store_item
from pyguixvm.plan.actions import (
    CreateEmptyRoot,
    CreateRoot,
    RealizeImage,
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


def realize_plans(session: Session, plans: Sequence[tuple[Plan, Roots]]) -> None:
    """Build what PLANS need, and protect it from Guix's garbage collector by their roots."""
    outputs: dict[str, str] = {}
    claims: dict[Path, str] = {}
    made: list[tuple[VirtualMachine, str]] = []
    for plan, roots in plans:
        for machine in plan.machines:
            outputs.update(realizations(machine.actions))
            for action in machine.actions:
                if isinstance(action, CreateRoot | CreateEmptyRoot | StackRoot):
                    claims.update((roots.claim(item), item) for item in _items(action))
                if isinstance(action, RealizeImage):
                    made.append((machine.machine, action.output))
    realize(session, outputs, claims)
    for whose, image in made:
        MadeImages(session.state_directory).keep(whose, image)


def _items(action: CreateRoot | CreateEmptyRoot | StackRoot) -> Iterator[str]:
    """Yield the store items that the generation stands on whose root volume ACTION makes."""
    item = action.system if isinstance(action, CreateEmptyRoot) else action.image
    if not is_store_item(item):
        return
    yield item
    if isinstance(action, CreateRoot) and action.content is not None:
        yield action.content.system.output
