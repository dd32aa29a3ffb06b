# SPDX-License-Identifier: GPL-3.0-or-later
"""Which generations are declared, deployed, booted and running, and of which commits; pure."""

from __future__ import annotations

import msgspec

from pyguixvm.model.applied import Metadata
from pyguixvm.model.provenance import Provenance
from pyguixvm.plan.guest import GuestSystem


class Origin(msgspec.Struct, frozen=True, rename="kebab"):
    """A GENERATION, made at DATE (UTC in ISO 8601), and the commits that it is of.

    What is declared is no generation yet.  None is what is not known.
    """

    generation: int | None = None
    date: str | None = None
    provenance: Provenance | None = None

    @property
    def commit(self) -> str | None:
        """The commit of the configuration's repository."""
        own = self.provenance.configuration if self.provenance else None
        return own.commit if own else None


class Origins(msgspec.Struct, frozen=True, rename="kebab"):
    """Of one machine: what is DECLARED now, DEPLOYED, and what its guest BOOTED and RUNS."""

    declared: Origin | None = None
    deployed: Origin | None = None
    booted: Origin | None = None
    running: Origin | None = None


def origins(metadata: Metadata, guest: GuestSystem, declared: Provenance | None) -> Origins:
    """Return what METADATA tells of the generations of GUEST, and of what is DECLARED."""
    return Origins(
        declared=None if declared is None else Origin(provenance=declared),
        deployed=_origin(metadata, metadata.current),
        booted=_origin(metadata, guest.booted),
        running=_origin(metadata, guest.generation),
    )


def _origin(metadata: Metadata, number: int | None) -> Origin | None:
    if number is None:
        return None
    found = metadata.find(number)
    return Origin(number, found.date, found.provenance)
