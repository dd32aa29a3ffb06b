# SPDX-License-Identifier: GPL-3.0-or-later
"""The generations of machines, listed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyguixvm.commands.machines import observed_metadata
from pyguixvm.commands.session import Session
from pyguixvm.hypervisor.connection import connect
from pyguixvm.hypervisor.observe import Depth, observe
from pyguixvm.model.applied import Generation, Metadata
from pyguixvm.model.listed import ListedGeneration
from pyguixvm.model.observation import Observation
from pyguixvm.model.usage import Address


def generations(session: Session, names: Sequence[str]) -> tuple[ListedGeneration, ...]:
    """Return the generations of the machines NAMES, of all of ours if there are none."""
    with connect(session.uri) as connection:
        observation = observe(connection, Depth.VOLUMES)
        found = observed_metadata(observation, names) if names else all_metadata(observation)
        sizes = {(each.pool, each.name): each.allocation for each in observation.stored}
        return tuple(
            _listed(name, metadata.current, generation, sizes)
            for name, metadata in found.items()
            for generation in metadata.generations
        )


def all_metadata(observation: Observation) -> dict[str, Metadata]:
    """Return what our machines in OBSERVATION remember, by their names in order."""
    return {
        name: domain.metadata
        for name, domain in sorted(observation.domains.items())
        if domain.metadata is not None
    }


def _listed(
    machine: str, current: int, generation: Generation, sizes: Mapping[Address, int]
) -> ListedGeneration:
    return ListedGeneration(
        machine=machine,
        number=generation.number,
        date=generation.date,
        current=generation.number == current,
        failed=generation.failed,
        label=generation.label,
        kernel=generation.kernel,
        image=generation.image,
        pool=generation.pool,
        volume=generation.volume,
        base=generation.base,
        size=sizes.get((generation.pool, generation.volume)),
        increment=generation.increment,
        under=generation.under,
        downtime=generation.downtime,
        provenance=generation.provenance,
    )
