# SPDX-License-Identifier: GPL-3.0-or-later
"""Which way leads to a new root: a whole image, or what changed since one that is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from declarations import content, domain, machine, system

from pyguixvm.errors import RequestRefusedError
from pyguixvm.model.applied import Generation, Metadata
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.model.image import Derivation, LocalImage
from pyguixvm.model.observation import Hardware, Observation, ObservedDomain
from pyguixvm.plan.actions import Action, CreateRoot, RealizeContent, RealizeImage
from pyguixvm.plan.plan import Policy, Strategy
from pyguixvm.plan.planner import plan
from pyguixvm.plan.strategies.choose import choose, realizations
from pyguixvm.plan.strategies.increment import Bases

HARDWARE = Hardware(cpu=1, maximum_cpu=1, memory=1, maximum_memory=1, domain_type="qemu")


def assembled(item: str) -> Derivation:
    return Derivation(f"/gnu/store/{item}-quick.drv", f"/gnu/store/{item}-quick")


def declared(item: str, name: str = "web", layout: str = "mbr", **image: Any) -> VirtualMachine:
    """A machine whose image is the store item named after ITEM, one letter."""
    return machine(name, image=system(item * 32, content=content(item, layout=layout), **image))


def quick(item: str, name: str = "web", layout: str = "mbr") -> VirtualMachine:
    """A machine as `declared`, whose image can be assembled."""
    made = content(item, layout=layout, assembled=assembled(item))
    return machine(name, image=system(item * 32, content=made))


def disk_image(item: str) -> str:
    return f"/gnu/store/{item * 32}-disk-image"


def there(
    *generations: tuple[str, VirtualMachine, str], images: set[str] | None = None
) -> Observation:
    """A hypervisor with one generation of each machine, made on a date from an image."""
    domains = {}
    for date, applied, item in generations:
        generation = Generation(
            number=1,
            date=date,
            label="GNU",
            pool="default",
            volume=f"pyguixvm-{applied.name}.g1.qcow2",
            image=disk_image(item),
            declaration=applied,
        )
        domains[applied.name] = ObservedDomain(
            name=applied.name,
            uuid="0" * 36,
            state="running",
            autostart=True,
            persistent=True,
            defined=HARDWARE,
            metadata=Metadata(current=1, generations=(generation,)),
        )
    found = {disk_image(item) for _, _, item in generations} if images is None else images
    return Observation(uri="test:///", local=True, domains=domains, images=frozenset(found))


A, B = declared("a"), declared("b")
SPARE = msgspec.structs.replace(there(images={disk_image("a")}), spare={"mbr": disk_image("s")})


@pytest.mark.parametrize(
    ("wanted", "observation", "strategy", "way", "base", "reason"),
    [
        (B, there(), "auto", "full", None, "there is no image with the same"),
        (B, there(("2026", A, "a")), "auto", "increment", "a", "its image is there"),
        (B, there(("2026", A, "a")), "increment", "increment", "a", "its image is there"),
        (B, there(("2026", A, "a")), "full", "full", None, "asked for"),
        (A, there(("2026", A, "a")), "auto", "full", None, "it is the image that is there"),
        # An increment that goes back to what its base is.
        (A, there(("2026", B, "a")), "auto", "full", None, "it is the image that is there"),
        # On another's, if it has none itself.
        (
            declared("b", "db"),
            there(("2026", A, "a")),
            "auto",
            "increment",
            "a",
            "the image of 'web' is there",
        ),
        # Its own rather than a newer one.
        (
            B,
            there(("2025", A, "a"), ("2026", declared("c", "db"), "c")),
            "auto",
            "increment",
            "a",
            "its image is there",
        ),
        # The newest of others'.
        (
            B,
            there(("2026", declared("c", "db"), "c"), ("2025", declared("d", "mail"), "d")),
            "auto",
            "increment",
            "c",
            "the image of 'db'",
        ),
        (
            declared("b", layout="gpt"),
            there(("2026", A, "a")),
            "auto",
            "full",
            None,
            "there is no image",
        ),
        # Collected, or made on another machine.
        (B, there(("2026", A, "a"), images=set()), "auto", "full", None, "there is no image"),
        (
            declared("b", root_file_system="btrfs"),
            there(("2026", A, "a")),
            "auto",
            "full",
            None,
            "a btrfs root",
        ),
        # On what was made for a machine that is gone, but rather on that of one that is there.
        (B, SPARE, "auto", "increment", "s", "an image of another system with the same partitions"),
        (declared("s"), SPARE, "auto", "full", None, "it is the image that is there"),
        (declared("b", layout="gpt"), SPARE, "auto", "full", None, "there is no image"),
        (
            B,
            msgspec.structs.replace(SPARE, domains=there(("2026", A, "a")).domains),
            "auto",
            "increment",
            "a",
            "its image is there",
        ),
        # Deployed by a version that did not know contents.
        (B, there(("2026", machine(), "a")), "auto", "full", None, "there is no image"),
    ],
)
def test_the_way_to_a_new_root(
    wanted: VirtualMachine,
    observation: Observation,
    strategy: Strategy,
    way: Strategy,
    base: str | None,
    reason: str,
) -> None:
    chosen = choose(wanted, 2, Bases(observation), strategy)
    assert (chosen.strategy, chosen.reason.startswith(reason)) == (way, True), chosen.reason
    first, root = chosen.actions
    assert isinstance(root, CreateRoot)
    assert root.volume == f"pyguixvm-{wanted.name}.g2.qcow2"
    if base is None:
        assert isinstance(first, RealizeImage)
        assert (root.image, root.content) == (first.output, None)
    else:
        assert isinstance(first, RealizeContent)
        assert (root.image, root.content) == (disk_image(base), first.content)
        # Should it be too much after all.
        assert root.whole is not None
        assert root.whole.output == disk_image("b")


def test_an_image_as_it_is_takes_no_build() -> None:
    local = machine(image=LocalImage(path="/a.qcow2", format="qcow2", size=1, modified=1))
    (root,) = choose(local, 1, Bases(there()), "auto").actions
    assert isinstance(root, CreateRoot)
    assert root.image == "/a.qcow2"


@pytest.mark.parametrize(
    "observation", [there(), there(("2026", declared("a", layout="gpt"), "a"))]
)
def test_an_increment_that_is_not_possible_is_refused(observation: Observation) -> None:
    with pytest.raises(RequestRefusedError, match="cannot get an increment: there is no image"):
        choose(B, 2, Bases(observation), "increment")
    (refused,) = plan([B], observation, policy=Policy(strategy="increment")).machines
    assert refused.refusal is not None
    assert refused.actions == ()


def test_of_new_machines_the_first_makes_the_image_of_all() -> None:
    names = ["web", "db", "mail"]
    machines = [
        msgspec.structs.replace(declared(item, name), domain=domain(networking=()))
        for item, name in zip("abc", names, strict=True)
    ]
    plans = plan(machines, there()).machines
    assert [each.strategy for each in plans] == ["full", "increment", "increment"]
    needed = [
        output for each in plans for _, output in realizations(each.actions) if "disk" in output
    ]
    assert needed == [disk_image("a")]


def made_of(actions: Sequence[Action]) -> str:
    """Return the image that ACTIONS make a root of."""
    (root,) = (action for action in actions if isinstance(action, CreateRoot))
    return root.image


def test_an_image_that_can_be_assembled_is_not_made_by_guix() -> None:
    way = choose(quick("b"), 1, Bases(there()), "auto")
    assert (way.strategy, made_of(way.actions)) == ("assembled", assembled("b").output)
    assert realizations(way.actions) == [(assembled("b").derivation, assembled("b").output)]


def test_who_asks_for_a_whole_image_gets_guixs() -> None:
    way = choose(quick("b"), 1, Bases(there()), "full")
    assert (way.strategy, made_of(way.actions)) == ("full", disk_image("b"))
    assert [output for _, output in realizations(way.actions)] == [disk_image("b")]


def test_machines_of_one_system_stand_on_one_assembled_image() -> None:
    bases = Bases(there())
    ways = [choose(quick("b", name), 1, bases, "auto") for name in ("web", "db")]
    assert [way.strategy for way in ways] == ["assembled", "assembled"]
    assert {made_of(way.actions) for way in ways} == {assembled("b").output}
    other = choose(quick("c", "mail"), 1, bases, "auto")
    assert (other.strategy, made_of(other.actions)) == ("increment", assembled("b").output)
    (root,) = (action for action in other.actions if isinstance(action, CreateRoot))
    # If too much has changed, that is assembled as well.
    assert root.whole
    assert root.whole.output == assembled("c").output


def test_guixs_image_is_taken_where_it_is_there() -> None:
    way = choose(quick("a"), 2, Bases(there(("2026", A, "a"))), "auto")
    assert (way.strategy, made_of(way.actions)) == ("full", disk_image("a"))


def test_what_an_increment_needs_is_built() -> None:
    chosen = choose(B, 2, Bases(there(("2026", A, "a"))), "auto")
    assert realizations(chosen.actions) == [
        ("/gnu/store/b-system.drv", "/gnu/store/b-system"),
        ("/gnu/store/b-cfg.drv", "/gnu/store/b-cfg"),
    ]
