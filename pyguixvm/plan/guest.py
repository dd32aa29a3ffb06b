# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a guest runs what was deployed to it; pure.

What cannot be seen is unknown, and is never guessed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

import msgspec

from pyguixvm.model.applied import Metadata
from pyguixvm.model.difference import Difference
from pyguixvm.model.observation import ObservedDomain

GuestVerdict: TypeAlias = Literal[
    "as deployed", "reconfigured", "another generation", "waiting for restart", "unknown", "off"
]
_SYSTEM = "guest.system"
# A clock that is further off (seconds) is of no use to whoever compares logs or checks
# certificates.
_CLOCK_OFF = 30.0


class GuestSystem(msgspec.Struct, frozen=True, rename="kebab"):
    """What a guest runs: GENERATION is the one whose system that is, None if none has it."""

    verdict: GuestVerdict
    generation: int | None = None


def guest_system(domain: ObservedDomain) -> GuestSystem:
    """Return how what the guest of DOMAIN says that it runs compares with what was deployed."""
    metadata, inside = domain.metadata, domain.inside
    if domain.state == "shut off":
        return GuestSystem("off")
    if metadata is None or inside is None or inside.running is None:
        return GuestSystem("unknown")
    deployed = metadata.generation.system
    if deployed is None:
        return GuestSystem("unknown")
    number = _generation_of(inside.running, metadata)
    if inside.running != deployed:
        return GuestSystem("reconfigured" if number is None else "another generation", number)
    if inside.booted not in {None, deployed} and inside.restart:
        return GuestSystem("waiting for restart", number)
    return GuestSystem("as deployed", number)


def guest_differences(domain: ObservedDomain) -> Iterator[Difference]:
    """Yield how the guest of DOMAIN differs from what was deployed to it.

    Nothing that a deployment does mends what somebody did in a guest, but a new root.
    """
    metadata, inside = domain.metadata, domain.inside
    if metadata is None or inside is None:
        return
    system = metadata.generation.system
    match guest_system(domain).verdict:
        case "reconfigured" | "another generation":
            yield Difference(_SYSTEM, inside.running, system, "none")
        case "waiting for restart":
            yield Difference("guest.booted", inside.booted, system, "restart", pending=True)


def guest_troubles(domain: ObservedDomain) -> Iterator[str]:
    """Yield in words what is wrong in the guest of DOMAIN beside what it runs."""
    if domain.inside is None:
        return
    for service in domain.inside.failed or ():
        yield f"service {service} failed"
    clock = domain.inside.clock
    if clock is not None and abs(clock) > _CLOCK_OFF:
        yield f"its clock is {abs(clock):.0f} s {'ahead' if clock > 0 else 'behind'}"
    for each in domain.inside.file_systems or ():
        # As the rule for alerts has it: nine tenths.
        if each.used * 10 > each.total * 9:
            yield f"{each.target} is {100 * each.used // each.total} % full"


def _generation_of(system: str, metadata: Metadata) -> int | None:
    """Return the number of the newest generation of METADATA that has SYSTEM."""
    found = [each.number for each in metadata.generations if each.system == system]
    return max(found, default=None)
