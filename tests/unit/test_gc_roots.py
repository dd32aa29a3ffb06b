# SPDX-License-Identifier: GPL-3.0-or-later
"""Where links for Guix's garbage collector are, which there should be, and which go."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from declarations import content, machine, system

from pyguixvm.commands.gc_roots import Known, superfluous, wanted_links
from pyguixvm.guix.roots import Link, Roots, directory_name, leads_to, roots_for
from pyguixvm.model.applied import Generation, Metadata
from pyguixvm.model.hypervisor import Hypervisor
from pyguixvm.model.image import Derivation

HERE = Hypervisor(None, "", "qemu", "/system")
UUID = "0a" * 16
OTHER = "0b" * 16
ITEM = f"/gnu/store/{'a' * 32}-disk-image"
NEWER = f"/gnu/store/{'b' * 32}-disk-image"
URI = "qemu:///system"
LOOKED = 1000.0


def generation(number: int = 1, image: str = ITEM, **fields: Any) -> Generation:
    made = Generation(
        number=number,
        date="2026-01-31T12:00:00Z",
        label="label",
        pool="default",
        volume=f"pyguixvm-web.g{number}.qcow2",
        image=image,
        declaration=machine(),
    )
    return msgspec.structs.replace(made, **fields)


def known(*generations: Generation, **fields: Any) -> Known:
    made = Known({UUID: Metadata(current=1, generations=generations)}, (), LOOKED)
    return msgspec.structs.replace(made, **fields)


def link(path: str, item: str = ITEM, owner: str | None = UUID, made: float = 1.0) -> Link:
    return Link(Path(path), item, owner, made)


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    return Roots(tmp_path / "roots", former=(tmp_path / "former",))


def put(path: Path, item: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(item)


# Places.


def places(tmp_path: Path, *writable: str, environment: Mapping[str, str] | None = None) -> Roots:
    for each in writable:
        (tmp_path / "guix" / each).mkdir(parents=True)
    environment = {"GUIX_STATE_DIRECTORY": str(tmp_path / "guix")} | dict(environment or {})
    return roots_for(HERE, URI, environment, tmp_path / "state")


def test_root_has_them_below_gcroots(tmp_path: Path) -> None:
    found = places(tmp_path, "gcroots", f"profiles/per-user/{pwd.getpwuid(os.geteuid()).pw_name}")
    assert found.scanned
    assert found.directory.parent == tmp_path / "guix/gcroots/pyguixvm"


def test_a_user_has_them_beside_their_profiles(tmp_path: Path) -> None:
    user = pwd.getpwuid(os.geteuid()).pw_name
    found = places(tmp_path, f"profiles/per-user/{user}")
    assert found.scanned
    assert found.directory.parent == tmp_path / f"guix/profiles/per-user/{user}/pyguixvm"


def test_without_a_place_that_is_scanned_the_daemon_is_told(tmp_path: Path) -> None:
    found = places(tmp_path)
    assert not found.scanned
    assert found.directory.parent == tmp_path / "state/gc-roots"
    assert found.former == (tmp_path / "state/gc-roots/qemu%3A%2F%2F%2Fsystem",)


def test_what_was_named_by_a_uri_that_no_file_can_be_named_by_was_never_there(
    tmp_path: Path,
) -> None:
    uri = f"qemu+ssh://{'h' * 240}/system"
    found = roots_for(HERE, uri, {"GUIX_STATE_DIRECTORY": "/nonexistent"}, tmp_path)
    assert found.former == ()
    assert list(found.links()) == []


NAMES = [
    HERE,
    Hypervisor(None, "", "qemu", "/session", "alice"),
    Hypervisor(None, "", "qemu", "/session", "bob"),
    Hypervisor("u", "host", "QEMU", "/system"),
    Hypervisor("v", "host", "QEMU", "/system"),
    Hypervisor("u", "host.", "QEMU", "/system"),
    Hypervisor("u", "../../etc", "QEMU", "/system"),
    Hypervisor("u", "ü" * 300, "QEMU", "/system"),
    Hypervisor("u", "ü" * 299 + "\n", "QEMU", "/system"),
]


def test_each_hypervisor_has_a_short_name_of_its_own() -> None:
    names = [directory_name(each) for each in NAMES]
    assert len(set(names)) == len(NAMES)
    for name in names:
        assert "/" not in name
        assert name.isprintable()
        assert not name.startswith(".."), name
        assert len(name.encode()) <= 255
    assert names[1].startswith("qemu-session-alice-")


# What a generation wants.


def test_a_generation_wants_its_image(roots: Roots) -> None:
    assert roots.of(UUID, generation()) == {roots.directory / UUID / "1": ITEM}


def test_an_image_that_is_no_store_item_is_not_the_collectors(roots: Roots) -> None:
    assert roots.of(UUID, generation(image="/srv/image.raw")) == {}


@pytest.mark.parametrize(
    ("fields", "both"),
    [
        ({"increment": 7}, True),
        ({}, False),
        ({"increment": 7, "under": ("pyguixvm-web.g1.qcow2",)}, False),
    ],
)
def test_an_increment_wants_the_system_that_it_was_made_of(
    roots: Roots, fields: dict[str, Any], both: bool
) -> None:
    built = Derivation(derivation=f"{NEWER}.drv", output=NEWER)
    declared = machine(image=system(content=content(system=built, boot_configuration=built)))
    found = roots.of(UUID, generation(2, declaration=declared, **fields))
    expected = {roots.directory / UUID / "2": ITEM}
    if both:
        expected[roots.directory / UUID / "2-system"] = NEWER
    assert found == expected


@pytest.mark.parametrize(
    ("local", "links", "wanted"),
    [
        (True, [], True),
        (False, [], False),
        (False, [link("/x/1")], True),
        (False, [link("/x/1", owner="web")], True),
        (False, [link("/x/1", owner=OTHER)], False),
    ],
)
def test_elsewhere_links_are_for_who_has_some(
    roots: Roots, local: bool, links: list[Link], wanted: bool
) -> None:
    found = wanted_links(roots, links, known(generation()), local=local)
    assert found == ({roots.directory / UUID / "1": ITEM} if wanted else {})


# What goes.

WANTED = {Path("/roots/machine/1"): ITEM}
RIGHT = link("/roots/machine/1")
CLAIM = link("/roots/+new/a", owner=None)
FORMER = link("/former/web/1", owner="web")


@pytest.mark.parametrize(
    ("links", "fields", "gone"),
    [
        pytest.param([RIGHT], {}, [], id="one that is wanted stays"),
        pytest.param([link("/roots/machine/2", NEWER)], {}, [0], id="of no generation"),
        pytest.param([RIGHT, CLAIM, FORMER], {}, [1, 2], id="what has another one"),
        pytest.param([CLAIM, FORMER], {}, [], id="the last one for an item stays"),
        pytest.param(
            [link("/roots/machine/1", NEWER), CLAIM], {}, [], id="one that leads elsewhere is none"
        ),
        pytest.param([link("/x/2", NEWER, made=LOOKED)], {}, [], id="made since the look"),
        pytest.param([link("/x/2", NEWER, made=LOOKED - 0.5)], {}, [], id="made as it began"),
        pytest.param([link("/x/1", NEWER, OTHER)], {}, [], id="of a machine that is gone"),
        pytest.param(
            [link("/x/1", NEWER, OTHER)], {"used": {NEWER}}, [], id="whose volume is still there"
        ),
        pytest.param(
            [link("/x/1", NEWER, OTHER)], {"used": {ITEM}}, [0], id="and whose volume is gone, too"
        ),
        pytest.param(
            [link("/x/1", NEWER, OTHER)],
            {"used": (), "unreadable": {OTHER}},
            [],
            id="of a machine that cannot be read",
        ),
        pytest.param(
            [link("/former/db/1", NEWER, "db")],
            {"used": (), "unreadable": {"db"}},
            [],
            id="of one that cannot be read, by its name",
        ),
    ],
)
def test_what_protects_nothing_goes(
    links: list[Link], fields: dict[str, Any], gone: list[int]
) -> None:
    seen = known(generation(), **fields)
    found = list(superfluous(WANTED, links, seen, claims=True))
    assert found == [links[index] for index in gone]


def test_claims_stay_while_somebody_may_need_them() -> None:
    seen = known(generation())
    assert list(superfluous(WANTED, [RIGHT, CLAIM], seen, claims=False)) == []


# Links.


def test_what_is_claimed_is_protected(roots: Roots) -> None:
    put(roots.claim(ITEM), ITEM)
    roots.protect(UUID, generation())
    assert leads_to(roots.directory / UUID / "1", ITEM)
    assert leads_to(roots.claim(ITEM), ITEM)


def test_what_is_not_claimed_may_be_gone_and_is_left_to_the_daemon(roots: Roots) -> None:
    roots.protect(UUID, generation())
    assert list(roots.links()) == []


def test_what_is_protected_wrongly_is_protected_rightly(roots: Roots) -> None:
    put(roots.claim(ITEM), ITEM)
    put(roots.directory / UUID / "1", NEWER)
    roots.protect(UUID, generation())
    assert leads_to(roots.directory / UUID / "1", ITEM)


def test_links_are_told_with_their_owners(roots: Roots, tmp_path: Path) -> None:
    put(roots.claim(ITEM), ITEM)
    put(roots.directory / UUID / "2-system", NEWER)
    put(tmp_path / "former/web/10", ITEM)
    found = [(each.owner, each.generation, each.item) for each in roots.links()]
    assert found == [(None, None, ITEM), (UUID, 2, NEWER), ("web", 10, ITEM)]


def test_nobody_is_alone_while_somebody_claims(roots: Roots) -> None:
    with roots.alone() as alone:
        assert not alone  # there is nothing yet
    with roots.claiming(), roots.claiming(), roots.alone() as alone:
        assert not alone
    with roots.alone() as alone:
        assert alone
