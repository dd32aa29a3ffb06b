# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking the Scheme evaluator which commits come before which."""

from __future__ import annotations

import msgspec

from pyguixvm.events import Emit
from pyguixvm.guix.building import Answer, work
from pyguixvm.guix.configuration import Configuration, asked_for
from pyguixvm.guix.request import Exchange
from pyguixvm.model.provenance import Earlier, Relation, Relations

# A channel that was never fetched here is now.
_SECONDS = 1800.0


class _Channel(msgspec.Struct):
    name: str
    commit: str
    relation: Relation


class _Commit(msgspec.Struct):
    commit: str
    relation: Relation


class _Related(Answer):
    channels: tuple[_Channel, ...] = ()
    configuration: tuple[_Commit, ...] = ()


def relations(exchange: Exchange, emit: Emit, config: Configuration, asked: Earlier) -> Relations:
    """Return what the commits ASKED for are to those that CONFIG is evaluated with now.

    Raises BuildError.
    """
    if not asked:
        return Relations()
    request = {
        "config": asked_for(config),
        "channels": sorted(asked.channels),
        "commits": sorted(asked.configuration),
    }
    found = work(exchange, emit, "relations", request, _Related, _SECONDS)
    of_channels = {(each.name, each.commit): each.relation for each in found.channels}
    of_configuration = {each.commit: each.relation for each in found.configuration}
    return Relations(
        {each: of_channels.get(each) for each in asked.channels},
        {each: of_configuration.get(each) for each in asked.configuration},
    )
