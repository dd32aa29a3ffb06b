# SPDX-License-Identifier: GPL-3.0-or-later
"""What status says of a machine."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from declarations import GIB, domain, machine
from test_planner import applied, hardware, hypervisor, observed

from pyguixvm.plan.status import applied_statuses, statuses

GENERATION = msgspec.structs.replace(applied().generation, unseen=True)
UNSEEN = {"metadata": applied().having(GENERATION)}
FALLING_BACK = {"metadata": msgspec.structs.replace(applied(), fallback=1)}
PENDING = {"defined": hardware(maximum_memory=2 * GIB), "live": hardware()}


@pytest.mark.parametrize(
    ("there", "declared", "verdict"),
    [
        ({}, {}, "deployed"),
        ({"state": "shut off"}, {}, "stopped"),
        ({"state": "paused"}, {}, "stopped"),
        ({"autostart": False}, {}, "drifted"),
        ({"state": "shut off", "autostart": False}, {}, "drifted"),
        (PENDING, {"domain": domain(maximum_memory=2 * GIB)}, "pending restart"),
        (PENDING | {"autostart": False}, {"domain": domain(maximum_memory=2 * GIB)}, "drifted"),
        (UNSEEN, {}, "not seen ready"),
        (FALLING_BACK, {}, "not seen ready"),
        (UNSEEN | {"state": "shut off"}, {}, "stopped"),
        (UNSEEN | {"autostart": False}, {}, "drifted"),
        ({"metadata": None}, {}, "not ours"),
        ({"metadata": None, "unreadable": "made by a newer pyguixvm"}, {}, "not ours"),
    ],
)
def test_verdict(there: dict[str, Any], declared: dict[str, Any], verdict: str) -> None:
    (status,) = statuses([machine(**declared)], hypervisor(observed(**there)))
    assert status.status == verdict


def test_what_is_not_there_or_not_declared() -> None:
    found = statuses([machine()], hypervisor(), undeclared=["old"])
    assert [(s.name, s.status) for s in found] == [("web", "missing"), ("old", "not declared")]


def test_without_a_configuration_it_is_compared_with_what_was_applied() -> None:
    there = hypervisor(
        observed(), observed(name="db", autostart=False), observed(name="theirs", metadata=None)
    )
    assert [(s.name, s.status) for s in applied_statuses(there)] == [
        ("db", "drifted"),
        ("web", "deployed"),
    ]
    assert [s.name for s in applied_statuses(there, ["web"])] == ["web"]


def test_a_change_is_shown_with_both_values() -> None:
    (status,) = statuses([machine(domain=domain(memory=2 * GIB))], hypervisor(observed()))
    (difference,) = status.differences
    assert (difference.path, difference.old, difference.new) == ("domain.memory", GIB, 2 * GIB)


def test_who_is_changing_a_machine_is_told_be_it_there_or_yet_to_come() -> None:
    there = hypervisor(observed())
    busy = msgspec.structs.replace(there, holders={"web": "ada@pc", "db": "ada@pc"})
    found = [*statuses([machine(), machine(name="db")], busy), *applied_statuses(busy)]
    assert [(s.name, s.status, s.detail) for s in found] == [
        ("web", "deployed", "being changed by ada@pc"),
        ("db", "missing", "being changed by ada@pc"),
        ("web", "deployed", "being changed by ada@pc"),
    ]
