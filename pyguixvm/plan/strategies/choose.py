# SPDX-License-Identifier: GPL-3.0-or-later
"""Which way leads to the root of a new operating system; pure.

Each way has a module beside this one: whether it is possible, its actions, its reason.
A new one is a module, a line in `choose`, its name in `Strategy` (plan.py) and among those
that --strategy takes (cli/options.py), and its actions in actions.py, which apply/ carries
out.  To change a guest in place is none of them: it makes no root, and the planner asks for
it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pyguixvm.errors import RequestRefusedError
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.model.image import SharedStore
from pyguixvm.plan.actions import (
    Action,
    CreateRoot,
    RealizeContent,
    RealizeImage,
    RealizeSystem,
)
from pyguixvm.plan.plan import Strategy
from pyguixvm.plan.strategies.full import full, whole
from pyguixvm.plan.strategies.increment import Bases, increment
from pyguixvm.plan.strategies.shared_store import shared_root
from pyguixvm.plan.strategies.way import Way


def choose(machine: VirtualMachine, number: int, bases: Bases, strategy: Strategy) -> Way:
    """Return the way to root volume NUMBER of MACHINE, as STRATEGY allows.

    Raises RequestRefusedError if it is not possible in that way.
    """
    image = machine.image
    if not image.made_by_guix:
        return full(machine, number, "it is an image as it is")
    if isinstance(image, SharedStore):
        return Way(shared_root(machine, image, number), "shared-store", "asked for")
    if strategy == "full":
        return _to_stand_on(full(machine, number, "asked for"), machine, bases)
    found = increment(machine, number, bases)
    if isinstance(found, Way):
        return found
    if strategy == "increment":
        raise RequestRefusedError(
            f"'{machine.name}' cannot get an increment: {found}",
            hint="Deploy with --strategy auto, which makes a whole image then.",
        )
    return _to_stand_on(whole(machine, number, found, bases.images()), machine, bases)


def _to_stand_on(way: Way, machine: VirtualMachine, bases: Bases) -> Way:
    """Return WAY to a root of MACHINE, on whose image others may stand from then on."""
    for action in way.actions:
        if isinstance(action, CreateRoot):
            bases.add(machine, action.image)
    return way


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
