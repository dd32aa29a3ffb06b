# SPDX-License-Identifier: GPL-3.0-or-later
"""The addresses of machines that nothing was done to."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pyguixvm.errors import HypervisorError

if TYPE_CHECKING:
    # libvirt is loaded only by the runs that get as far as a hypervisor.
    from pyguixvm.apply.outcome import Outcome
    from pyguixvm.commands.planning import Planned, Sight


def with_addresses(planned: Sequence[Sight], outcomes: Sequence[Outcome]) -> tuple[Outcome, ...]:
    """Return OUTCOMES of what was PLANNED, each with the addresses that are known of its guest.

    Whoever waited for a guest knows them; a guest that was left alone is asked for here.
    """
    from pyguixvm.commands.planning import Planned

    left = {
        machine.machine.name: each
        for each in planned
        if isinstance(each, Planned)
        for machine in each.plan.machines
        if _runs(each, machine.machine.name)
    }
    return tuple(_completed(left, outcomes))


def _runs(planned: Planned, name: str) -> bool:
    domain = planned.observation.domains.get(name)
    return domain is not None and domain.state == "running"


def _completed(left: dict[str, Planned], outcomes: Sequence[Outcome]) -> Iterator[Outcome]:
    from pyguixvm.hypervisor.guest.addresses import addresses

    for outcome in outcomes:
        there = left.get(outcome.machine)
        if outcome.outcome != "unchanged" or there is None or outcome.addresses:
            yield outcome
            continue
        try:
            found = addresses(there.connection, outcome.machine)
        except HypervisorError:
            # Removed meanwhile: nothing was to be done, all the same.
            found = ()
        yield dataclasses.replace(outcome, addresses=found)
