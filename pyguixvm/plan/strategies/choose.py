# SPDX-License-Identifier: GPL-3.0-or-later
"""Which way leads to the root of a new operating system; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from pyguixvm.errors import RequestRefusedError
from pyguixvm.model.applied import Generation
from pyguixvm.model.declaration import LocalImage, SharedStore, SystemImage, VirtualMachine
from pyguixvm.model.observation import Observation
from pyguixvm.model.volume_names import generation_volume
from pyguixvm.plan.plan import (
    Action,
    CreateRoot,
    RealizeContent,
    RealizeImage,
    RealizeSystem,
    Strategy,
)
from pyguixvm.plan.strategies.shared_store import shared_root


class Base(msgspec.Struct, frozen=True):
    """An image on which roots of its LAYOUT can stand: the store item IMAGE.

    MACHINE is whose it is, which is where a person knows it from.
    """

    image: str
    layout: str
    machine: str


class Way(msgspec.Struct, frozen=True):
    """The ACTIONS that make a new root volume; STRATEGY is their name, REASON why they are it."""

    actions: tuple[Action, ...]
    strategy: Strategy
    reason: str


class Bases:
    """The images on a hypervisor, and those that a plan adds to them."""

    def __init__(self, observation: Observation) -> None:
        """Take those of OBSERVATION whose content can be read on this machine."""
        self._found = list(_observed(observation))

    def find(self, layout: str, machine: str) -> Base | None:
        """Return one of LAYOUT, that of MACHINE if possible, else the newest."""
        suitable = [base for base in self._found if base.layout == layout]
        own = (base for base in reversed(suitable) if base.machine == machine)
        return next(own, suitable[-1] if suitable else None)

    def add(self, machine: VirtualMachine) -> None:
        """Let others stand on the image of MACHINE, which is going to be made."""
        image = machine.image
        if isinstance(image, SystemImage) and image.content and image.output:
            self._found.append(Base(image.output, image.content.layout, machine.name))


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


def choose(machine: VirtualMachine, number: int, bases: Bases, strategy: Strategy) -> Way:
    """Return the way to root volume NUMBER of MACHINE, as STRATEGY allows.

    Raises RequestRefusedError if it is not possible in that way.
    """
    image = machine.image
    if isinstance(image, LocalImage):
        return Way((new_root(machine, number),), "full", "it is an image as it is")
    if isinstance(image, SharedStore):
        return Way(shared_root(machine, image, number), "shared-store", "asked for")
    if image.derivation is None or image.output is None:
        raise ValueError("a plan needs an evaluation with image derivations")
    realize = RealizeImage(derivation=image.derivation, output=image.output)
    base, reason = _base(machine.name, image, bases, strategy)
    if base is not None and image.content is not None:
        root = msgspec.structs.replace(
            new_root(machine, number), image=base.image, content=image.content, whole=realize
        )
        return Way((RealizeContent(content=image.content), root), "increment", reason)
    if strategy == "increment":
        raise RequestRefusedError(
            f"'{machine.name}' cannot get an increment: {reason}",
            hint="Deploy with --strategy auto, which makes a whole image then.",
        )
    bases.add(machine)
    return Way((realize, new_root(machine, number)), "full", reason)


def _base(
    machine: str, image: SystemImage, bases: Bases, strategy: Strategy
) -> tuple[Base | None, str]:
    """Return what a root of MACHINE with IMAGE can stand on, if anything, and why."""
    if strategy == "full":
        return None, "asked for"
    if image.root_file_system != "ext4":
        return None, f"a {image.root_file_system} root can only be made as a whole"
    base = bases.find(image.content.layout, machine) if image.content else None
    if base is None:
        return None, "there is no image with the same partitions to stand on yet"
    if base.image == image.output:
        return None, "it is the image that is there"
    whose = "its image" if base.machine == machine else f"the image of '{base.machine}'"
    return base, f"{whose} is there to stand on"


def new_root(machine: VirtualMachine, number: int) -> CreateRoot:
    """Return the action that makes root volume NUMBER of MACHINE from its own image."""
    image = machine.image
    if isinstance(image, SharedStore):
        raise ValueError("there is no image")  # noqa: TRY004 -- of the machine, not of a type
    return CreateRoot(
        pool=machine.domain.pool,
        volume=generation_volume(machine.name, number),
        image=image.path if isinstance(image, LocalImage) else image.output or "",
        size=machine.domain.storage,
    )


def realizations(actions: Iterable[Action]) -> Sequence[tuple[str, str]]:
    """Return derivation and output of each store item that ACTIONS need."""
    found: list[tuple[str, str]] = []
    for action in actions:
        match action:
            case (
                RealizeImage(derivation=derivation, output=output)
                | RealizeSystem(derivation=derivation, output=output)
            ):
                found.append((derivation, output))
            case RealizeContent(content=content):
                found += [
                    (each.derivation, each.output)
                    for each in (content.system, content.boot_configuration)
                ]
    return found
