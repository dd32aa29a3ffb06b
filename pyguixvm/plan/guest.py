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
from pyguixvm.model.guest import Inside
from pyguixvm.model.observation import ObservedDomain

GuestVerdict: TypeAlias = Literal[
    "as deployed", "booted as deployed", "reconfigured", "another generation",
    "waiting for restart", "unknown", "off",
]  # fmt: skip
_SYSTEM = "guest.system"
# A clock that is further off (seconds) is of no use to whoever compares logs or checks
# certificates.
_CLOCK_OFF = 30.0


class GuestSystem(msgspec.Struct, frozen=True, rename="kebab"):
    """What a guest runs: GENERATION is the one whose system that is, None if none has it.

    BOOTED is the generation whose system it booted.  Where nothing but that is known, from its
    console, it booted as deployed, or runs what it booted.
    """

    verdict: GuestVerdict
    generation: int | None = None
    booted: int | None = None


def guest_system(domain: ObservedDomain) -> GuestSystem:
    """Return how what is known that the guest of DOMAIN runs compares with what was deployed."""
    metadata, inside = domain.metadata, domain.inside
    if domain.state == "shut off":
        return GuestSystem("off")
    if metadata is None or metadata.generation.runs is None:
        return GuestSystem("unknown")
    running, booted = (inside.running, inside.booted) if inside else (None, None)
    booted = booted or domain.booted
    booted_number = _generation_of(booted, metadata)
    if running is None:
        verdict = _by_its_console(domain.booted, metadata)
        return GuestSystem(verdict, booted=booted_number)
    number = _generation_of(running, metadata)
    return GuestSystem(_by_what_runs(running, inside, metadata), number, booted_number)


def _by_what_runs(running: str, inside: Inside | None, metadata: Metadata) -> GuestVerdict:
    deployed = metadata.generation.runs
    if running != deployed:
        return "reconfigured" if _generation_of(running, metadata) is None else "another generation"
    if inside and inside.booted not in {None, deployed} and inside.restart:
        return "waiting for restart"
    return "as deployed"


def _by_its_console(booted: str | None, metadata: Metadata) -> GuestVerdict:
    """Return what follows if the guest of METADATA was seen to have BOOTED that."""
    deployed = metadata.generation
    if booted is None:
        return "unknown"
    if booted == deployed.runs:
        return "booted as deployed"
    if deployed.pinned_uuid is not None or deployed.activated is not None:
        # It was changed while it ran, and said nothing then.
        return "unknown"
    return "reconfigured" if _generation_of(booted, metadata) is None else "another generation"


def guest_differences(domain: ObservedDomain) -> Iterator[Difference]:
    """Yield how the guest of DOMAIN differs from what was deployed to it.

    Nothing that a deployment does mends what somebody did in a guest, but a new root.
    """
    metadata, inside = domain.metadata, domain.inside
    if metadata is None:
        return
    system, running = metadata.generation.runs, inside.running if inside else None
    match guest_system(domain).verdict:
        case "reconfigured" | "another generation":
            yield Difference(_SYSTEM, running or domain.booted, system, "none")
        case "waiting for restart":
            booted = inside.booted if inside else None
            yield Difference("guest.booted", booted, system, "restart", pending=True)


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


def _generation_of(system: str | None, metadata: Metadata) -> int | None:
    """Return the number of the newest generation of METADATA that has SYSTEM, if that is known."""
    if system is None:
        return None
    found = [each.number for each in metadata.generations if each.runs == system]
    return max(found, default=None)
