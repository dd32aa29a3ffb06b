# SPDX-License-Identifier: GPL-3.0-or-later
"""Commits in words; pure."""

from __future__ import annotations

from pyguixvm.model.provenance import Provenance

# As long as Git shows commits.
_COMMIT = 7


def commits(provenance: Provenance | None) -> str:
    """Return the commits of PROVENANCE in a few words, that of the configuration first."""
    if provenance is None:
        return "-"
    own = provenance.configuration
    named = [f"{each.name} {each.commit[:_COMMIT]}" for each in provenance.channels]
    if own is not None:
        named.insert(0, f"{own.commit[:_COMMIT]}{'+' if own.modified else ''}")
    return ", ".join(named) or "-"
