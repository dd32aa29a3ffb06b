# SPDX-License-Identifier: GPL-3.0-or-later
"""What was seen once, as the exporter would tell it."""

from __future__ import annotations

from collections.abc import Iterable

from pyguixvm.commands.status import Sighted
from pyguixvm.exporter.view import FleetView, HypervisorView
from pyguixvm.plan.rates import Rates


def view_of(sighted: Iterable[Sighted], now: float) -> FleetView:
    """Return SIGHTED, of NOW (seconds since the epoch), as a view; nothing was counted."""
    return FleetView(hypervisors=tuple(_hypervisor(each, now) for each in sighted))


def no_history(_uuid: str | None) -> tuple[Rates, ...]:
    """Return what is known of the last hour: nothing."""
    return ()


def _hypervisor(sighted: Sighted, now: float) -> HypervisorView:
    there = sighted.observation
    if there is None:
        return HypervisorView(sighted.uri, sighted.error, statuses=sighted.statuses)
    return HypervisorView(
        uri=sighted.uri,
        error=None,
        looked=now,
        seconds=max(0.0, now - there.begun),
        observation=there,
        statuses=sighted.statuses,
        statistics={
            each.uuid: each.statistics
            for each in there.domains.values()
            if each.statistics is not None
        },
        spaces=there.spaces,
    )
