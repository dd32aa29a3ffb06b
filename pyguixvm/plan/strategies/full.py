# SPDX-License-Identifier: GPL-3.0-or-later
"""A root volume on the machine's own image, which is made as a whole."""

from __future__ import annotations

from collections.abc import Container

import msgspec

from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.model.image import Derivation, RemoteImage, SharedStore, SystemImage
from pyguixvm.model.volume_names import generation_volume
from pyguixvm.plan.actions import CreateRoot, FetchImage, RealizeImage
from pyguixvm.plan.strategies.way import Way


def full(machine: VirtualMachine, number: int, reason: str) -> Way:
    """Return the way that makes root volume NUMBER of MACHINE from its whole image.

    Of an operating system, that is what 'guix system image' makes.
    """
    root = new_root(machine, number)
    if isinstance(machine.image, SystemImage):
        return Way((realization(guixs(machine.image)), root), "full", reason)
    if isinstance(machine.image, RemoteImage):
        return Way((_fetching(machine.image), root), "full", reason)
    return Way((root,), "full", reason)


def whole(machine: VirtualMachine, number: int, reason: str, there: Container[str]) -> Way:
    """Return the quickest way to a whole image of MACHINE; THERE are images that are built."""
    image = machine.image
    if not isinstance(image, SystemImage) or image.output in there:
        return full(machine, number, reason)
    made = quickest(image)
    if made.output == image.output:
        return full(machine, number, reason)
    root = msgspec.structs.replace(new_root(machine, number), image=made.output)
    return Way((realization(made), root), "assembled", reason)


def guixs(image: SystemImage) -> Derivation:
    """Return Guix's own derivation of IMAGE, whose evaluation was asked for that."""
    if image.derivation is None or image.output is None:
        raise ValueError("a plan needs an evaluation with image derivations")
    return Derivation(image.derivation, image.output)


def quickest(image: SystemImage) -> Derivation:
    """Return what makes an image that holds what IMAGE does in the least time."""
    assembled = image.content.assembled if image.content else None
    return assembled or guixs(image)


def realization(image: Derivation) -> RealizeImage:
    """Return the action that has Guix build IMAGE."""
    return RealizeImage(derivation=image.derivation, output=image.output)


def _fetching(image: RemoteImage) -> FetchImage:
    return FetchImage(url=image.url, digest=image.sha256, path=image.path, format=image.format)


def new_root(machine: VirtualMachine, number: int) -> CreateRoot:
    """Return the action that makes root volume NUMBER of MACHINE from its own image."""
    image = machine.image
    if isinstance(image, SharedStore):
        raise ValueError("there is no image")  # noqa: TRY004 -- of the machine, not of a type
    return CreateRoot(
        pool=machine.domain.pool,
        volume=generation_volume(machine.name, number),
        image=image.file,
        size=machine.domain.storage,
    )
