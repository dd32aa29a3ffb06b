# SPDX-License-Identifier: GPL-3.0-or-later
"""What status says of a guest, of its last deploy, and of what counts for nothing."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from declarations import machine, system
from test_planner import applied, hypervisor, observed

from pyguixvm.cli.status_lines import status_lines
from pyguixvm.model.applied import LastDeploy
from pyguixvm.model.guest import FileSystem, Inside
from pyguixvm.model.image import Derivation, ImageContent
from pyguixvm.model.provenance import Channel, Checkout, Provenance
from pyguixvm.model.statistics import DiskStatistics, InterfaceStatistics, Statistics
from pyguixvm.plan.origins import Origin, Origins
from pyguixvm.plan.rates import Rates, rates
from pyguixvm.plan.status import MachineStatus, is_ignored, last_deploy, statuses

ITEMS = {letter: f"/gnu/store/{letter * 32}-system" for letter in "abc"}


def content(letter: str) -> ImageContent:
    drv = Derivation(derivation=f"{ITEMS[letter]}.drv", output=ITEMS[letter])
    return ImageContent("layout", "uuid", drv, drv, "/boot")


DECLARED = machine(image=system(content=content("b")))
FIRST = msgspec.structs.replace(
    applied().generation, declaration=machine(image=system(content=content("a")))
)
SECOND = msgspec.structs.replace(
    applied().generation, number=2, date="2026-02-01T00:00:00+00:00", declaration=DECLARED,
)  # fmt: skip
TWO = msgspec.structs.replace(applied(), current=2, generations=(FIRST, SECOND))


def status(**there: Any) -> MachineStatus:
    (found,) = statuses([DECLARED], hypervisor(observed(metadata=TWO, **there)))
    return found


@pytest.mark.parametrize(
    ("inside", "verdict", "generation", "status_"),
    [
        (None, "unknown", None, "deployed"),
        (Inside(), "unknown", None, "deployed"),
        (Inside(running=ITEMS["b"]), "as deployed", 2, "deployed"),
        (
            Inside(booted=ITEMS["b"], running=ITEMS["b"], restart=False),
            "as deployed", 2, "deployed",
        ),
        (
            Inside(booted=ITEMS["a"], running=ITEMS["b"], restart=False),
            "as deployed", 2, "deployed",
        ),
        (
            Inside(booted=ITEMS["a"], running=ITEMS["b"], restart=None),
            "as deployed", 2, "deployed",
        ),
        (Inside(booted=ITEMS["a"], running=ITEMS["b"], restart=True), "waiting for restart", 2,
         "pending restart"),
        (Inside(booted=ITEMS["b"], running=ITEMS["c"]), "reconfigured", None, "drifted"),
        (Inside(booted=ITEMS["a"], running=ITEMS["a"]), "another generation", 1, "drifted"),
    ],
)  # fmt: skip
def test_what_a_guest_runs(
    inside: Inside | None, verdict: str, generation: int | None, status_: str
) -> None:
    found = status(inside=inside)
    assert (found.guest.verdict, found.guest.generation) == (verdict, generation)
    assert found.status == status_


def test_what_was_not_deployed_with_a_known_system_is_unknown() -> None:
    (found,) = statuses([machine()], hypervisor(observed(inside=Inside(running=ITEMS["c"]))))
    assert (found.guest.verdict, found.status) == ("unknown", "deployed")


@pytest.mark.parametrize(
    ("booted", "verdict", "generation", "status_"),
    [
        ("b", "booted as deployed", 2, "deployed"),
        ("a", "another generation", 1, "drifted"),
        ("c", "reconfigured", None, "drifted"),
    ],
)
def test_of_a_guest_that_says_nothing_what_it_wrote_when_it_booted_is_known(
    booted: str, verdict: str, generation: int | None, status_: str
) -> None:
    found = status(booted=ITEMS[booted])
    assert (found.guest.verdict, found.guest.booted, found.status) == (verdict, generation, status_)
    # What it runs since then is not.
    assert found.guest.generation is None
    assert found.booted == ITEMS[booted]
    # Nor what became of it if it was changed while it ran.
    changed = msgspec.structs.replace(SECOND, pinned_uuid="uuid", activated=ITEMS["b"])
    metadata = msgspec.structs.replace(TWO, generations=(FIRST, changed))
    (later,) = statuses([DECLARED], hypervisor(observed(metadata=metadata, booted=ITEMS["c"])))
    assert later.guest.verdict == "unknown"


def test_what_a_guest_says_counts_more_than_what_it_wrote_when_it_booted() -> None:
    found = status(booted=ITEMS["a"], inside=Inside(booted=ITEMS["b"], running=ITEMS["b"]))
    assert (found.guest.verdict, found.guest.booted) == ("as deployed", 2)


def test_a_guest_that_is_off_runs_nothing() -> None:
    assert status(state="shut off").guest.verdict == "off"


def test_what_is_wrong_in_a_guest_is_told() -> None:
    inside = Inside(
        clock=-45.0,
        failed=("nginx",),
        file_systems=(FileSystem("/", 1000, 901), FileSystem("/home", 1000, 900)),
    )
    assert status(inside=inside).detail == (
        "service nginx failed, its clock is 45 s behind, / is 90 % full"
    )


def test_why_it_is_paused_is_told() -> None:
    assert status(state="paused", reason="by an I/O error").detail == "paused by an I/O error"


def test_the_last_deploy_is_the_one_that_was_taken_back() -> None:
    begun = LastDeploy("ada@pc", "2026-03-01T00:00:00+00:00", 31.5)
    failed = msgspec.structs.replace(SECOND, failed=True, deploy=begun)
    again = msgspec.structs.replace(FIRST, deploy=LastDeploy("ada@pc", begun.date))
    metadata = msgspec.structs.replace(TWO, current=1, generations=(again, failed))
    found = last_deploy(metadata)
    assert (found.generation, found.ended, found.by, found.seconds) == (
        2, "rolled back", "ada@pc", 31.5,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("deploy", "unseen", "ended"),
    [
        (LastDeploy("a@b", "2026-03-01T00:00:00+00:00", 0.0), False, "ready"),
        (LastDeploy("a@b", "2026-03-01T00:00:00+00:00", 9.0, failed=True), False, "failed"),
        (LastDeploy("a@b", "2026-03-01T00:00:00+00:00", 9.0, failed=True), True, "failed"),
        # It goes on, or was killed.
        (LastDeploy("a@b", "2026-03-01T00:00:00+00:00"), True, "not seen ready"),
        (LastDeploy("a@b", "2026-03-01T00:00:00+00:00"), False, "not seen to end"),
    ],
)
def test_how_the_last_deploy_ended(deploy: LastDeploy, unseen: bool, ended: str) -> None:
    second = msgspec.structs.replace(SECOND, deploy=deploy, unseen=unseen)
    found = last_deploy(msgspec.structs.replace(TWO, generations=(FIRST, second)))
    assert (found.generation, found.ended, found.seconds) == (2, ended, deploy.seconds)


def test_a_way_back_that_failed_is_no_rollback() -> None:
    begun = LastDeploy("ada@pc", "2026-03-01T00:00:00+00:00", 31.5)
    failed = msgspec.structs.replace(SECOND, failed=True, deploy=begun)
    lost = msgspec.structs.replace(begun, failed=True)
    again = msgspec.structs.replace(FIRST, deploy=lost, unseen=True)
    metadata = msgspec.structs.replace(TWO, current=1, generations=(again, failed))
    assert last_deploy(metadata).ended == "failed"
    # It was another deploy that failed back then.
    earlier = msgspec.structs.replace(lost, date="2026-02-01T00:00:00+00:00")
    again = msgspec.structs.replace(again, deploy=earlier)
    metadata = msgspec.structs.replace(TWO, current=1, generations=(again, failed))
    assert last_deploy(metadata).ended == "rolled back"


def test_of_what_an_earlier_version_deployed_the_date_is_known() -> None:
    found = last_deploy(TWO)
    assert (found.generation, found.ended, found.by, found.date) == (
        2, "ready", None, "2026-02-01T00:00:00+00:00",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("path", "ignore", "ignored"),
    [
        ("domain.memory", ("domain.memory",), True),
        ("domain.memory", ("domain",), True),
        ("domain.memory", ("domain.mem",), False),
        ("domain.maximum-memory", ("domain.memory",), False),
        ("domain.memory", (), False),
    ],
)
def test_what_is_ignored(path: str, ignore: tuple[str, ...], ignored: bool) -> None:
    assert is_ignored(path, ignore) is ignored


def test_what_is_used_in_a_second() -> None:
    def counted(number: int) -> Statistics:
        return Statistics(
            state=1,
            cpu_seconds=number,
            disks=(DiskStatistics("vda", read_bytes=number), DiskStatistics("vdb", read_bytes=1)),
            interfaces=(InterfaceStatistics("vnet0", received_bytes=100 * number),),
        )

    assert rates(counted(1), counted(2), 2.0) == Rates(cpu=0.5, read=0.5, received=50.0)
    # Started anew, it counts from nothing.
    assert rates(counted(2), counted(1), 2.0) == Rates()
    assert rates(None, counted(1), 2.0) == Rates()


def test_which_commits_are_declared_deployed_booted_and_running() -> None:
    old, new, newest = (
        Provenance(
            (Channel("guix", "url", None, letter * 40),),
            Checkout("/infra", None, letter * 40, modified=letter == "b"),
        )
        for letter in "abc"
    )
    generations = (
        msgspec.structs.replace(FIRST, provenance=old),
        msgspec.structs.replace(SECOND, provenance=new),
    )
    metadata = msgspec.structs.replace(TWO, generations=generations)
    inside = Inside(booted=ITEMS["a"], running=ITEMS["b"], restart=False)
    there = hypervisor(observed(metadata=metadata, inside=inside))
    (found,) = statuses([DECLARED], there, provenance=newest)
    assert found.origins == Origins(
        declared=Origin(provenance=newest),
        deployed=Origin(2, SECOND.date, new),
        booted=Origin(1, FIRST.date, old),
        running=Origin(2, SECOND.date, new),
    )
    told = [line.strip() for line in status_lines(found, all_=True)]
    of = ("declared:", "deployed:", "booted:", "running:")
    assert [line for line in told if line.startswith(of)] == [
        "declared: ccccccc, guix ccccccc",
        f"deployed: generation 2 of {SECOND.date}, bbbbbbb+, guix bbbbbbb",
        f"booted: generation 1 of {FIRST.date}, aaaaaaa, guix aaaaaaa",
        f"running: generation 2 of {SECOND.date}, bbbbbbb+, guix bbbbbbb",
    ]
