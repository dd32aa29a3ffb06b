# SPDX-License-Identifier: GPL-3.0-or-later
"""Which volumes below a root become one, and what is remembered of them."""

from __future__ import annotations

import msgspec
import pytest
from test_garbage import NEVER, generation, stored, unneeded, web
from test_in_place import in_place, there
from test_planner import hardware, observed

from pyguixvm.errors import RequestRefusedError
from pyguixvm.model.applied import Generation, Merging, Metadata
from pyguixvm.model.observation import BlockJob, ObservedDomain, Snapshot
from pyguixvm.plan.actions import (
    ActivateSystem,
    DefineDomain,
    MergeLayers,
    PrepareSystem,
    StackRoot,
)
from pyguixvm.plan.interference import require_idle_disks
from pyguixvm.plan.layers import MOST, mergeable, merged, superfluous


def volume(number: int) -> str:
    return f"pyguixvm-web.g{number}.qcow2"


def on_top(number: int, *below: int) -> Generation:
    """Return generation NUMBER on the volumes of those BELOW, nearest first."""
    return generation(number, under=tuple(map(volume, below)))


def pile(count: int) -> Metadata:
    """Return a machine whose root consists of COUNT volumes."""
    made = (on_top(number, *range(number - 1, 0, -1)) for number in range(1, count + 1))
    return web(*made, current=count)


def running(metadata: Metadata, **changes: object) -> ObservedDomain:
    disks = (f"/pool/{metadata.generation.volume}",)
    own = hardware(disks=disks)
    return observed(metadata=metadata, defined=own, live=own, **changes)


def of(metadata: Metadata, added: str | None = "new", **changes: object) -> MergeLayers | None:
    return superfluous(running(metadata, **changes), metadata, added, ())


def test_few_volumes_stay_and_of_many_those_of_the_middle_are_merged() -> None:
    assert of(pile(MOST - 1)) is None
    found = of(pile(MOST))
    # The newest eight stay, the new one among them, and the one that was made afresh.
    assert found == MergeLayers(
        "default", tuple(volume(number) for number in range(9, 1, -1)), tuple(range(2, 9))
    )
    assert of(pile(MOST), added=None) is None


@pytest.mark.parametrize(
    "changes",
    [{"snapshots": (Snapshot("backup", (), ()),)}, {"checkpoints": ("backup",)}],
)
def test_what_libvirt_keeps_of_a_chain_stays(changes: dict[str, object]) -> None:
    assert of(pile(MOST), **changes) is None


def test_what_another_root_stands_on_stays() -> None:
    metadata = pile(MOST).having(on_top(99, 6, 5, 4, 3, 2, 1))
    found = of(metadata)
    assert found is not None
    assert found.volumes == tuple(volume(number) for number in (5, 4, 3, 2))
    # The other one has what is merged below itself, too.
    merging = Merging("default", found.volumes)
    rest = tuple(g for g in metadata.generations if g.number not in found.generations)
    after = merged(msgspec.structs.replace(metadata, generations=rest), merging)
    assert after.find(99).under == (volume(6), volume(2), volume(1))
    assert after.find(5).volumes == (volume(2), volume(1))
    assert after.generation.volumes == (
        *(volume(number) for number in range(MOST, 5, -1)),
        volume(2),
        volume(1),
    )
    assert merged(after, merging) == after


@pytest.mark.parametrize("needed", [3, 8])
def test_what_is_to_be_returned_to_stays(needed: int) -> None:
    metadata = msgspec.structs.replace(pile(MOST), fallback=needed)
    found = of(metadata)
    assert found is not None
    assert needed not in found.generations
    assert volume(needed) not in found.volumes


def test_only_what_nothing_else_stands_on_by_now_is_gone_on_with() -> None:
    metadata = pile(5)
    assert mergeable(metadata, Merging("default", (volume(4), volume(3))))
    assert not mergeable(metadata, Merging("other", (volume(4), volume(3))))
    # What the guest writes to, what is not as it was, and what is not there any more.
    assert not mergeable(metadata, Merging("default", (volume(5), volume(4))))
    assert not mergeable(metadata, Merging("default", (volume(4), volume(2))))
    assert not mergeable(metadata, Merging("default", (volume(9), volume(8))))
    other = metadata.having(on_top(9, 4, 3, 2, 1))
    assert not mergeable(other, Merging("default", (volume(4), volume(3))))
    assert mergeable(other, Merging("default", (volume(3), volume(2))))


def test_a_merge_is_gone_on_with_before_the_root_gets_another_volume() -> None:
    found = there()
    assert found.metadata is not None
    merging = Merging("default", (volume(4), volume(3)))
    metadata = msgspec.structs.replace(found.metadata, merging=merging)
    plan = in_place(msgspec.structs.replace(found, metadata=metadata))
    kinds = [type(action) for action in plan.actions]
    assert kinds[:5] == [MergeLayers, PrepareSystem, StackRoot, ActivateSystem, DefineDomain]
    assert plan.actions[0] == MergeLayers("default", merging.volumes)


def test_our_own_merge_stops_nobody_and_that_of_others_does() -> None:
    job = BlockJob("vda", "block commit")
    metadata = pile(3)
    with pytest.raises(RequestRefusedError):
        require_idle_disks(running(metadata, jobs=(job,)))
    merging = Merging("default", (volume(2), volume(1)))
    ours = msgspec.structs.replace(metadata, merging=merging)
    require_idle_disks(running(ours, jobs=(job,)))
    for kind in ("backup", "active block commit"):
        with pytest.raises(RequestRefusedError, match=kind):
            require_idle_disks(running(ours, jobs=(BlockJob("vda", kind),)))


def test_what_was_merged_into_another_volume_is_garbage() -> None:
    metadata = web(generation(1), on_top(3, 1), current=3)
    ours = msgspec.structs.replace(metadata, merging=Merging("default", (volume(2), volume(1))))
    there = tuple(stored(volume(number)) for number in (1, 2, 3))
    assert unneeded(ours, *there).volumes == (stored(volume(2)),)
    assert unneeded(ours, *there, before=NEVER).generations == ()
