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
from pyguixvm.model.declaration import LocalImage, RemoteImage, SharedStore, VirtualMachine
from pyguixvm.plan.actions import Action, RealizeContent, RealizeImage, RealizeSystem
from pyguixvm.plan.plan import Strategy
from pyguixvm.plan.strategies.full import full
from pyguixvm.plan.strategies.increment import Bases, increment
from pyguixvm.plan.strategies.shared_store import shared_root
from pyguixvm.plan.strategies.way import Way


def choose(machine: VirtualMachine, number: int, bases: Bases, strategy: Strategy) -> Way:
    """Return the way to root volume NUMBER of MACHINE, as STRATEGY allows.

    Raises RequestRefusedError if it is not possible in that way.
    """
    image = machine.image
    if isinstance(image, LocalImage | RemoteImage):
        return full(machine, number, "it is an image as it is")
    if isinstance(image, SharedStore):
        return Way(shared_root(machine, image, number), "shared-store", "asked for")
    found = "asked for" if strategy == "full" else increment(machine, number, bases)
    if isinstance(found, Way):
        return found
    if strategy == "increment":
        raise RequestRefusedError(
            f"'{machine.name}' cannot get an increment: {found}",
            hint="Deploy with --strategy auto, which makes a whole image then.",
        )
    bases.add(machine)
    return full(machine, number, found)


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
