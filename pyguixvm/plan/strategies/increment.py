# SPDX-License-Identifier: GPL-3.0-or-later
"""A root volume on an image that is there, with what the new system has and that lacks."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from pyguixvm.model.applied import Generation
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.model.image import SystemImage
from pyguixvm.model.observation import Observation
from pyguixvm.plan.actions import RealizeContent
from pyguixvm.plan.strategies.full import new_root, quickest, realization
from pyguixvm.plan.strategies.way import Way


class Base(msgspec.Struct, frozen=True):
    """An image on which roots of its LAYOUT can stand: the store item IMAGE.

    MACHINE is whose it is, which is where a person knows it from; None if nobody's any more.
    """

    image: str
    layout: str
    machine: str | None


class Bases:
    """The images on a hypervisor, and those that a plan adds to them."""

    def __init__(self, observation: Observation) -> None:
        """Take those of OBSERVATION whose content can be read on this machine."""
        spare = (Base(image, layout, None) for layout, image in observation.spare.items())
        self._found = [*spare, *_observed(observation)]

    def find(self, layout: str, machine: str) -> Base | None:
        """Return one of LAYOUT, that of MACHINE if possible, else the newest of another's."""
        suitable = [base for base in self._found if base.layout == layout]
        own = (base for base in reversed(suitable) if base.machine == machine)
        return next(own, suitable[-1] if suitable else None)

    def add(self, machine: VirtualMachine, made: str) -> None:
        """Let others stand on the image MADE of MACHINE, which is going to be there."""
        image = machine.image
        if isinstance(image, SystemImage) and image.content:
            self._found.append(Base(made, image.content.layout, machine.name))

    def images(self) -> frozenset[str]:
        """Return the images that one can stand on."""
        return frozenset(base.image for base in self._found)


def _observed(observation: Observation) -> Iterator[Base]:
    generations = (
        (name, generation)
        for name, domain in observation.domains.items()
        if domain.metadata is not None
        for generation in domain.metadata.generations
    )
    for name, generation in sorted(generations, key=lambda found: found[1].date):
        # What was changed in place stands on an image of an earlier declaration.
        layout = None if generation.pinned_uuid else _layout(generation)
        if layout is not None and generation.image in observation.images:
            yield Base(generation.image, layout, name)


def _layout(generation: Generation) -> str | None:
    image = generation.declaration.image
    return image.content.layout if isinstance(image, SystemImage) and image.content else None


def increment(machine: VirtualMachine, number: int, bases: Bases) -> Way | str:
    """Return the way to root volume NUMBER of MACHINE on one of BASES, or why there is none."""
    image = machine.image
    if not isinstance(image, SystemImage):
        return "it is not made of an operating-system"
    if image.root_file_system != "ext4":
        return f"a {image.root_file_system} root can only be made as a whole"
    base = bases.find(image.content.layout, machine.name) if image.content else None
    if base is None or image.content is None:
        return "there is no image with the same partitions to stand on yet"
    if base.image in {image.output, quickest(image).output}:
        return "it is the image that is there"
    root = msgspec.structs.replace(
        new_root(machine, number),
        image=base.image,
        content=image.content,
        whole=realization(quickest(image)),
    )
    actions = (RealizeContent(content=image.content), root)
    return Way(actions, "increment", f"{_whose(base, machine)} is there to stand on")


def _whose(base: Base, machine: VirtualMachine) -> str:
    if base.machine is None:
        return "an image of another system with the same partitions"
    return "its image" if base.machine == machine.name else f"the image of '{base.machine}'"
