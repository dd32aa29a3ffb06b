# SPDX-License-Identifier: GPL-3.0-or-later
"""From declaration and observation to a plan."""

from __future__ import annotations

from typing import Any

import pytest
from declarations import GIB, domain, machine
from hypothesis import given
from hypothesis import strategies as st

from pyguixvm.model.deployment import LocalImage
from pyguixvm.model.generation import Generation, Metadata
from pyguixvm.model.names import generation_volume
from pyguixvm.model.observation import Observation, ObservedDomain
from pyguixvm.reconcile.plan import CreateRoot, DefineDomain, Plan, RealizeImage, StartDomain
from pyguixvm.reconcile.planner import plan


def applied(**changes: Any) -> Metadata:
    generation = Generation(
        number=1,
        date="2026-01-01T00:00:00+00:00",
        label="GNU",
        pool="default",
        volume="pyguixvm-web.g1.qcow2",
        image="/gnu/store/x",
        declaration=machine(**changes),
    )
    return Metadata(current=1, generations=(generation,))


def observed(**changes: Any) -> ObservedDomain:
    fields: dict[str, Any] = {
        "name": "web",
        "uuid": "0" * 36,
        "state": "running",
        "autostart": True,
        "persistent": True,
        "memory": GIB,
        "cpu": 1,
        "metadata": applied(),
    }
    return ObservedDomain(**(fields | changes))


def hypervisor(*domains: ObservedDomain, volumes: tuple[str, ...] = ()) -> Observation:
    return Observation(
        uri="test:///default", local=True, domains={d.name: d for d in domains}, volumes=volumes
    )


def planned(*domains: ObservedDomain, volumes: tuple[str, ...] = (), **declared: Any) -> Plan:
    return plan([machine(**declared)], hypervisor(*domains, volumes=volumes))


def test_a_missing_machine_is_built_defined_and_started() -> None:
    (web,) = planned().machines
    assert web.effect == "create"
    assert web.actions == (
        RealizeImage(
            derivation=f"/gnu/store/{'a' * 32}-disk-image.drv",
            output=f"/gnu/store/{'a' * 32}-disk-image",
        ),
        CreateRoot(
            pool="default",
            volume="pyguixvm-web.g1.qcow2",
            image=f"/gnu/store/{'a' * 32}-disk-image",
            size=10 * GIB,
        ),
        DefineDomain(generation=1, autostart=True),
        StartDomain(timeout=120),
    )


def test_a_local_image_is_not_built() -> None:
    image = LocalImage(path="/x.qcow2", format="qcow2", size=1, modified=2)
    (web,) = planned(image=image).machines
    assert [type(action) for action in web.actions] == [CreateRoot, DefineDomain, StartDomain]


def test_what_matches_gives_an_empty_plan() -> None:
    unchanged = planned(observed())
    assert unchanged.empty
    assert unchanged.machines[0].effect == "none"


@pytest.mark.parametrize("state", ["shut off", "crashed"])
def test_a_machine_that_does_not_run_is_started(state: str) -> None:
    (web,) = planned(observed(state=state)).machines
    assert web.actions == (StartDomain(timeout=120),)


@pytest.mark.parametrize("state", ["paused", "suspended", "running"])
def test_a_machine_that_somebody_paused_is_left_alone(state: str) -> None:
    assert planned(observed(state=state)).empty


@pytest.mark.parametrize(
    ("domain_there", "words"),
    [
        (observed(metadata=None), "that pyguixvm did not make"),
        (observed(metadata=None, unreadable="made by a newer pyguixvm"), "newer pyguixvm"),
        (observed(metadata=applied(domain=domain(cpu=2))), "its declaration has changed"),
    ],
)
def test_what_is_refused(domain_there: ObservedDomain, words: str) -> None:
    refused = planned(domain_there)
    assert words in (refused.machines[0].refusal or "")
    assert refused.machines[0].actions == ()
    assert not refused.empty


@given(st.sets(st.integers(min_value=1, max_value=50)))
def test_a_volume_that_was_kept_is_never_overwritten(numbers: set[int]) -> None:
    kept = tuple(generation_volume("web", number) for number in numbers)
    (web,) = planned(volumes=(*kept, "pyguixvm-other.g99.qcow2")).machines
    roots = [action.volume for action in web.actions if isinstance(action, CreateRoot)]
    assert len(roots) == 1
    assert roots[0] not in kept


def test_machines_do_not_see_each_other() -> None:
    both = plan([machine(), machine("db")], hypervisor(observed()))
    assert [m.effect for m in both.machines] == ["none", "create"]
