# SPDX-License-Identifier: GPL-3.0-or-later
"""Which machines a deployment has, and which it does not declare any more."""

from __future__ import annotations

from collections.abc import Collection

import msgspec
import pytest
from declarations import domain, machine
from test_planner import applied, hypervisor, observed

from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.model.observation import Observation, ObservedDomain
from pyguixvm.plan.actions import DefineDomain
from pyguixvm.plan.ownership import Owner, owners
from pyguixvm.plan.planner import plan

INFRA = Owner(name="infra", complete=True)


def of(deployment: str | None, name: str = "web") -> ObservedDomain:
    metadata = msgspec.structs.replace(applied(), deployment=deployment)
    return observed(name=name, metadata=metadata)


def called(name: str) -> VirtualMachine:
    return machine(name, domain=domain(networking=()))


def test_what_carries_the_name_and_is_not_declared_is_told() -> None:
    there = hypervisor(of("infra"), of("infra", "old"), of("other", "theirs"), of(None, "nobodys"))
    assert plan([machine()], there, owner=INFRA).undeclared == ("old",)


@pytest.mark.parametrize("owner", [Owner(name="infra"), Owner(complete=True), Owner()])
def test_without_a_name_or_in_part_nothing_is_told(owner: Owner) -> None:
    there = hypervisor(of(None), of(None, "old"), of("infra", "older"))
    assert plan([machine()], there, owner=owner).undeclared == ()


@pytest.mark.parametrize("config", [None, "/src/config.scm"])
def test_the_place_of_the_file_does_not_matter(config: str | None) -> None:
    there = hypervisor(of("infra"), of("infra", "old"))
    assert plan([machine()], there, config=config, owner=INFRA).undeclared == ("old",)


@pytest.mark.parametrize(
    ("theirs", "ours", "refused"),
    [
        ("infra", "infra", False),
        (None, None, False),
        (None, "infra", False),
        ("infra", "other", True),
        ("infra", None, True),
    ],
)
def test_a_machine_of_another_deployment_is_refused(
    theirs: str | None, ours: str | None, refused: bool
) -> None:
    (web,) = plan([machine()], hypervisor(of(theirs)), owner=Owner(name=ours)).machines
    assert (web.refusal is not None) is refused
    if web.refusal is not None:
        assert web.refusal.startswith("'web' belongs to deployment 'infra', and ")
        assert f"'{ours}'" in web.refusal or ours is None
        assert web.hint is not None
        assert '(deployment (name "infra")' in web.hint
        assert web.actions == ()


def test_a_machine_of_no_deployment_is_taken_over() -> None:
    (web,) = plan([machine()], hypervisor(of(None)), owner=INFRA).machines
    assert [(d.path, d.new, d.effect) for d in web.differences] == [("deployment", "infra", "live")]
    assert [type(action) for action in web.actions] == [DefineDomain]
    assert plan([machine()], hypervisor(of("infra")), owner=INFRA).empty


def at(uri: str, *domains: ObservedDomain) -> Observation:
    return msgspec.structs.replace(hypervisor(*domains), uri=uri)


def undeclared_and_refused(
    *hypervisors: tuple[Collection[VirtualMachine], Observation],
) -> list[tuple[tuple[str, ...], list[str]]]:
    found = []
    for index, (machines, observation) in enumerate(hypervisors):
        owner = owners(hypervisors, name="infra", complete=True)[index]
        made = plan(machines, observation, owner=owner)
        found.append((made.undeclared, [m.refusal for m in made.machines if m.refusal]))
    return found


def test_a_machine_that_is_declared_for_another_hypervisor_is_neither_moved_nor_pruned() -> None:
    here, there = at("test:///a", of("infra"), of("infra", "old")), at("test:///b")
    kept = called("mail")
    first, second = undeclared_and_refused(([kept], here), ([called("web")], there))
    assert first == (("old",), [])
    assert second == (
        (),
        ["'web' of deployment 'infra' is on test:///a, and is declared for test:///b"],
    )


def test_a_machine_that_is_on_both_is_not_declared_where_it_was() -> None:
    here, there = at("test:///a", of("infra")), at("test:///b", of("infra"))
    first, second = undeclared_and_refused(([called("mail")], here), ([machine()], there))
    assert first == (("web",), [])
    assert second == ((), [])


@pytest.mark.parametrize("theirs", [of("other"), of(None), observed(metadata=None)])
def test_a_machine_whose_place_somebody_else_has_is_not_pruned(theirs: ObservedDomain) -> None:
    here, there = at("test:///a", of("infra")), at("test:///b", theirs)
    first, _ = undeclared_and_refused(([called("mail")], here), ([machine()], there))
    assert first == ((), [])


LOST = {"test:///lost": (machine(),)}


def test_what_a_hypervisor_that_does_not_answer_is_to_have_is_not_pruned() -> None:
    """It may be there already, or not."""
    here = at("test:///a", of("infra"), of("infra", "old"))
    owner = owners([([called("mail")], here)], name="infra", complete=True, unseen=LOST)[0]
    assert plan([called("mail")], here, owner=owner).undeclared == ("old",)


@pytest.mark.parametrize("complete", [True, False])
def test_what_may_be_on_a_hypervisor_that_does_not_answer_is_not_made_elsewhere(
    complete: bool,
) -> None:
    here = at("test:///a", of("infra", "there"))
    declared = [called("there"), called("new")]
    owner = owners([(declared, here)], name="infra", complete=complete, unseen=LOST)[0]
    there, new = plan(declared, here, owner=owner).machines
    assert there.refusal is None
    assert new.actions == ()
    assert new.refusal == (
        "'new' is not on test:///a, and may be on test:///lost, which did not answer"
    )
    assert new.hint is not None
    assert "deploy CONFIG new" in new.hint


def test_without_a_name_a_machine_is_nowhere_but_where_it_is_declared() -> None:
    here = at("test:///a")
    owner = owners([([called("new")], here)], name=None, complete=True, unseen=LOST)[0]
    (new,) = plan([called("new")], here, owner=owner).machines
    assert new.refusal is None


def test_a_machine_of_no_deployment_that_is_declared_for_another_hypervisor_is_refused() -> None:
    """Where no deployment has a name, two hypervisors would have one machine twice."""
    away = msgspec.structs.replace(
        hypervisor(of(None), of("other", "mail")), uri="qemu+ssh://a/system"
    )
    here = hypervisor()
    found = [([], away), ([machine(), called("mail"), called("new")], here)]
    owner = owners(found, name=None, complete=True)[1]
    moved, others, new = plan(found[1][0], here, owner=owner).machines
    assert moved.refusal == f"'web' is on qemu+ssh://a/system, and is declared for {here.uri}"
    assert moved.hint is not None
    assert "If that is another machine, give this deployment a name." in moved.hint
    assert (others.refusal, new.refusal) == (None, None)
