# SPDX-License-Identifier: GPL-3.0-or-later
"""Which generations and volumes can go."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec
import pytest
from declarations import machine
from hypothesis import given
from hypothesis import strategies as st

from pyguixvm.model.applied import Generation, Metadata
from pyguixvm.model.observation import StoredVolume
from pyguixvm.model.usage import Address, Usage
from pyguixvm.plan.garbage import Garbage, garbage, unused_garbage

BASE = f"pyguixvm-{'b' * 64}.img"
OTHER_BASE = f"pyguixvm-{'c' * 64}.img"
# As earlier versions named them.
FORMER_BASE = f"pyguixvm-{'b' * 32}.img"
OTHER_FORMER_BASE = f"pyguixvm-{'z' * 32}.img"
NEVER = "9999"


def generation(number: int, **changes: Any) -> Generation:
    made = Generation(
        number=number,
        date=f"2026-01-{number:02}T00:00:00+00:00",
        label="GNU",
        pool="default",
        volume=f"pyguixvm-web.g{number}.qcow2",
        image="/gnu/store/x",
        declaration=machine(),
    )
    return msgspec.structs.replace(made, **changes)


def web(*generations: Generation, current: int, fallback: int | None = None) -> Metadata:
    return Metadata(current=current, generations=generations, fallback=fallback)


def stored(name: str, *, whole: bool = True) -> StoredVolume:
    return StoredVolume(pool="default", name=name, allocation=10, whole=whole)


def unneeded(
    metadata: Metadata,
    *volumes: StoredVolume,
    keep: int = 0,
    before: str = NEVER,
    used: Collection[Address] = (),
) -> Garbage:
    return garbage([("web", metadata)], volumes, keep=keep, before=before, used=used)


FOUR = tuple(generation(number) for number in range(1, 5))


@pytest.mark.parametrize(
    ("metadata", "keep", "before", "gone"),
    [
        (web(*FOUR, current=4), 0, NEVER, [1, 2]),
        (web(*FOUR, current=4), 3, NEVER, [1]),
        (web(*FOUR, current=4), 9, NEVER, []),
        (web(*FOUR, current=4), 0, "2026-01-01T12:00:00+00:00", [1]),
        (web(*FOUR, current=2), 0, NEVER, [3, 4]),
        (web(*FOUR, current=4, fallback=1), 0, NEVER, [2]),
        (web(*FOUR[:3], generation(4, failed=True), current=3), 3, "2025", [4]),
        (web(*FOUR[:2], generation(3, failed=True), FOUR[3], current=4), 0, NEVER, [1, 3]),
    ],
)
def test_generations(metadata: Metadata, keep: int, before: str, gone: list[int]) -> None:
    found = unneeded(metadata, keep=keep, before=before)
    assert [number for _, number in found.generations] == gone


@pytest.mark.parametrize(
    ("volume", "goes"),
    [
        (stored("pyguixvm-web.g1.qcow2"), True),
        (stored("pyguixvm-web.g4.qcow2"), False),
        (stored("pyguixvm-web.g3.qcow2"), False),
        (stored("pyguixvm-kept.g1.qcow2"), False),
        (stored(BASE), False),
        (stored(OTHER_BASE), True),
        (stored(FORMER_BASE), False),
        (stored(OTHER_FORMER_BASE), True),
        (stored("pyguixvm-web.g9.qcow2", whole=False), True),
        (stored("pyguixvm-web.lock"), True),
        (stored("pyguixvm-web.parcel"), True),
        (stored("pyguixvm-web.lock.qcow2"), False),
    ],
)
def test_volumes(volume: StoredVolume, goes: bool) -> None:
    metadata = web(*FOUR[:2], generation(3, base=FORMER_BASE), generation(4, base=BASE), current=4)
    assert unneeded(metadata, volume).volumes == ((volume,) if goes else ())


def test_a_base_stays_while_a_root_volume_is_being_made() -> None:
    making, base = stored("pyguixvm-web.g5.qcow2", whole=False), stored(OTHER_BASE)
    metadata = web(*FOUR, current=4)
    assert unneeded(metadata, base, making, used={(making.pool, making.name)}).volumes == ()
    # What was broken off does not keep it beyond its own end.
    assert set(unneeded(metadata, base, making).volumes) == {making, base}


def test_what_a_kept_root_volume_of_no_machine_stands_on_stays() -> None:
    kept = msgspec.structs.replace(stored("pyguixvm-kept.g1.qcow2"), base=OTHER_BASE)
    assert unneeded(web(*FOUR, current=4), kept, stored(OTHER_BASE)).volumes == ()


def test_what_a_root_volume_that_goes_stands_on_goes() -> None:
    going = msgspec.structs.replace(stored("pyguixvm-web.g1.qcow2"), base=OTHER_BASE)
    assert unneeded(web(*FOUR, current=4), going, stored(OTHER_BASE)).volumes == (
        going,
        stored(OTHER_BASE),
    )


def test_a_volume_that_two_generations_share_stays_with_either() -> None:
    shared = generation(3, volume=FOUR[0].volume)
    found = unneeded(web(FOUR[0], FOUR[1], shared, current=3), stored(FOUR[0].volume))
    assert found.volumes == ()


@given(st.sets(st.integers(1, 9), min_size=1), st.integers(0, 8), st.integers(0, 9))
def test_the_current_and_the_previous_one_always_stay(
    numbers: set[int], which: int, keep: int
) -> None:
    current = sorted(numbers)[which % len(numbers)]
    metadata = web(*(generation(n) for n in sorted(numbers)), current=current)
    gone = {number for _, number in unneeded(metadata, keep=keep).generations}
    assert current not in gone
    assert max((n for n in numbers if n < current), default=0) not in gone
    assert len(numbers - gone) >= min(keep, len(numbers))


def on_top(number: int, *under: int) -> Generation:
    return generation(number, under=tuple(f"pyguixvm-web.g{each}.qcow2" for each in under))


def root_volumes(*numbers: int) -> tuple[StoredVolume, ...]:
    return tuple(stored(f"pyguixvm-web.g{number}.qcow2") for number in numbers)


def test_a_volume_on_which_a_kept_one_stands_stays() -> None:
    stack = (generation(1), on_top(2, 1), on_top(3, 2, 1), on_top(4, 3, 2, 1))
    found = unneeded(web(*stack, current=4), *root_volumes(1, 2, 3, 4))
    assert found.generations == (("web", 1), ("web", 2))
    assert found.volumes == ()


def test_the_volumes_of_forgotten_generations_go_with_the_last_that_stands_on_them() -> None:
    kept = (on_top(3, 2, 1), generation(4), generation(5))
    found = unneeded(web(*kept, current=5), *root_volumes(1, 2, 3, 4, 5))
    assert found.generations == (("web", 3),)
    assert found.volumes == root_volumes(1, 2, 3)


def test_what_somebody_uses_stays_and_so_does_its_generation() -> None:
    metadata = web(*FOUR, current=4)
    found = garbage(
        [("web", metadata)],
        root_volumes(1, 2, 3, 4),
        keep=0,
        before=NEVER,
        used={("default", "pyguixvm-web.g1.qcow2")},
    )
    assert found.generations == (("web", 2),)
    assert [volume.name for volume in found.volumes] == ["pyguixvm-web.g2.qcow2"]


@pytest.mark.parametrize(
    ("unreadable", "stays"), [({"web"}, True), ({"web.dev"}, True), ({"we"}, False), (set(), False)]
)
def test_what_a_machine_may_have_whose_record_cannot_be_read_stays(
    unreadable: set[str], stays: bool
) -> None:
    volume = stored("pyguixvm-web.dev.g1.qcow2", whole=False)
    found = unused_garbage(
        [],
        [volume],
        Usage(domains={}, volumes={}, backing={}),
        keep=0,
        before=NEVER,
        unreadable=unreadable,
    )
    assert found.volumes == (() if stays else (volume,))


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    ("changing", "stays"), [(set(), False), ({"db"}, True), ({f"default/{BASE}"}, True)]
)
def test_a_base_stays_while_somebody_may_be_about_to_lay_a_root_on_it(
    changing: set[str], stays: bool, whole: bool
) -> None:
    volume = stored(BASE, whole=whole)
    found = unused_garbage(
        [],
        [volume],
        Usage(domains={}, volumes={}, backing={}),
        keep=0,
        before=NEVER,
        changing=changing,
    )
    assert found.volumes == (() if stays else (volume,))
