# SPDX-License-Identifier: GPL-3.0-or-later
"""Older commits do not take the place of newer ones."""

from __future__ import annotations

import pytest
from declarations import deployed, machine
from msgspec.structs import replace

from pyguixvm.errors import RequestRefusedError
from pyguixvm.model.applied import Metadata
from pyguixvm.model.difference import Difference
from pyguixvm.model.provenance import (
    Ancestry,
    Channel,
    Checkout,
    Provenance,
    Relation,
    Relations,
)
from pyguixvm.plan.actions import SetMemory
from pyguixvm.plan.downgrade import require_forward
from pyguixvm.plan.plan import MachinePlan, Policy

GUIX = Channel(name="guix", url="https://example.org/guix", branch="master", commit="b" * 40)
HERE = Checkout(
    directory="/infra/", url="https://example.org/infra", commit="d" * 40, modified=False
)
NOW = Provenance((GUIX,), HERE)
CHANGED = MachinePlan(
    machine(),
    "live",
    actions=(SetMemory(1),),
    differences=(Difference("domain.memory", 2, 1, "live"),),
)


def metadata(provenance: Provenance | None) -> Metadata:
    return deployed(machine(), provenance=provenance)


def refused(
    recorded: Provenance | None,
    relations: Relations,
    *,
    plan: MachinePlan = CHANGED,
    now: Provenance = NOW,
    policy: Policy = Policy(),  # noqa: B008 -- frozen
) -> bool:
    try:
        require_forward(plan, metadata(recorded), Ancestry(now, relations), policy)
    except RequestRefusedError as error:
        return "--allow-downgrades" in (error.hint or "")
    return False


@pytest.mark.parametrize(
    ("relation", "expected"),
    [
        ("self", False),
        ("ancestor", False),
        ("descendant", True),
        ("unrelated", True),
        ("unknown", True),
        (None, False),
    ],
)
def test_a_channel_goes_forward(relation: Relation | None, expected: bool) -> None:
    then = Provenance((replace(GUIX, commit="a" * 40),))
    relations = Relations(channels={("guix", "a" * 40): relation})
    assert refused(then, relations) is expected
    assert not refused(then, relations, policy=Policy(allow_downgrades=True))
    assert not refused(then, relations, plan=MachinePlan(machine(), "none"))


@pytest.mark.parametrize(
    ("relation", "url", "expected"),
    [
        ("descendant", HERE.url, True),
        ("descendant", None, True),
        ("ancestor", HERE.url, False),
        ("unrelated", HERE.url, False),  # amended, or another branch
        ("unknown", HERE.url, True),
        ("unknown", "https://example.org/another", False),
        (None, HERE.url, False),
    ],
)
def test_a_configuration_does_not_go_back(
    relation: Relation | None, url: str | None, expected: bool
) -> None:
    then = Provenance((GUIX,), replace(HERE, url=url, commit="c" * 40))
    assert refused(then, Relations(configuration={"c" * 40: relation})) is expected


def test_without_a_record_nothing_is_older() -> None:
    assert not refused(None, Relations())
    assert not refused(NOW, Relations(), now=Provenance())
