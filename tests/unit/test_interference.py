# SPDX-License-Identifier: GPL-3.0-or-later
"""What others did to disks is told apart from what is ours."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from declarations import GIB, domain
from test_planner import applied, hardware, observed, planned

from pyguixvm.errors import RequestRefusedError
from pyguixvm.model.applied import Metadata
from pyguixvm.model.declaration import DataDisk
from pyguixvm.model.observation import MIGRATED, BlockJob, ObservedDisk, ObservedDomain, Snapshot
from pyguixvm.plan.interference import (
    interferences,
    require_idle_disks,
    require_own_disks,
    require_unkept,
)

IMAGE = "/gnu/store/x"
DB = DataDisk(name="db", size=GIB, file_system="ext4", target=None)


def root(volume: str, *below: str) -> ObservedDisk:
    return ObservedDisk(f"/pool/{volume}", "vda", None, (*(f"/pool/{b}" for b in below), IMAGE))


def data(source: str, *below: str, known: bool = True) -> ObservedDisk:
    return ObservedDisk(
        source, "vdb", "data-db", tuple(f"/pool/{each}" for each in below) if known else None
    )


FIRST, SECOND = "pyguixvm-web.g1.qcow2", "pyguixvm-web.g2.qcow2"
VOLUME = "pyguixvm-web.db.qcow2"


def remembered(under: tuple[str, ...] = ()) -> Metadata:
    """Return what a machine remembers whose root is the second, on those UNDER it."""
    first = applied(domain=domain(disks=(DB,)))
    second = msgspec.structs.replace(first.generation, number=2, volume=SECOND, under=under)
    return msgspec.structs.replace(first.having(second), current=2)


def found(
    *disks: ObservedDisk,
    live: tuple[ObservedDisk, ...] | None = None,
    under: tuple[str, ...] = (),
    **changes: Any,
) -> ObservedDomain:
    return observed(
        metadata=remembered(under),
        defined=hardware(stacks=disks),
        live=None if live is None else hardware(stacks=live),
        **changes,
    )


@pytest.mark.parametrize(
    "there",
    [
        found(root(SECOND), data(f"/pool/{VOLUME}")),
        found(root(SECOND), data(f"/pool/{VOLUME}", known=False)),
        # In place, before the guest writes to its new volume, and one that was taken away again.
        found(root(SECOND, FIRST), live=(root(FIRST),), under=(FIRST,)),
        found(root("pyguixvm-web.g3.qcow2", SECOND)),
        found(root(SECOND), ObservedDisk("/dev/sdz", "vdc", None, None)),
        found(root(SECOND), ObservedDisk("rbd pool/image", "vdc", None, None)),
    ],
)
def test_what_is_ours_or_none_of_our_business(there: ObservedDomain) -> None:
    assert interferences(there) == ()
    require_own_disks(there)


LAYER = f"a snapshot's layer, '{SECOND}.s1', stands on the root volume of 'web'"


@pytest.mark.parametrize(
    ("there", "path", "words", "help_"),
    [
        (
            found(root(f"{SECOND}.s1", SECOND)),
            "root",
            LAYER,
            "virsh start web && virsh blockcommit web vda --base /pool/pyguixvm-web.g2.qcow2 "
            "--active --pivot",
        ),
        (
            found(root(SECOND), live=(root(f"{SECOND}.s1", "between", SECOND),)),
            "root",
            LAYER,
            ": virsh blockcommit web vda --base /pool/pyguixvm-web.g2.qcow2 --active --pivot",
        ),
        (
            found(
                root(f"{SECOND}.s1", SECOND),
                snapshots=(
                    Snapshot("s0", layers=("/pool/other",)),
                    Snapshot("s1", layers=(f"/pool/{SECOND}.s1",)),
                ),
            ),
            "root",
            LAYER,
            ": virsh snapshot-delete web s1.",
        ),
        (
            found(root(SECOND), data("/pool/pyguixvm-web.db-s1.qcow2", VOLUME)),
            "domain.disks.db",
            "'pyguixvm-web.db-s1.qcow2', stands on data disk 'db' of 'web'",
            "virsh blockcommit web vdb --base /pool/pyguixvm-web.db.qcow2",
        ),
        (
            found(root(SECOND), data("/elsewhere/x", known=False)),
            "domain.disks.db",
            f"/elsewhere/x is in the place of data disk 'db' of 'web', {VOLUME}",
            "virsh detach-disk web vdb --config",
        ),
        (
            found(root("theirs")),
            "root",
            f"/pool/theirs is in the place of the root volume of 'web', {SECOND}",
            "virsh detach-disk web vda --config",
        ),
        (
            found(root(FIRST), live=(root(FIRST),), under=(FIRST,)),
            "root",
            f"the root volume of 'web', {SECOND}, was merged into {FIRST}",
            "pyguixvm rollback web 1",
        ),
    ],
)
def test_what_others_did(there: ObservedDomain, path: str, words: str, help_: str) -> None:
    (each,) = interferences(there)
    assert each.path == path
    with pytest.raises(RequestRefusedError) as refusal:
        require_own_disks(there)
    assert words in refusal.value.message
    assert refusal.value.hint is not None
    assert refusal.value.hint.startswith("Nothing was done. ")
    assert help_ in refusal.value.hint


def test_a_merged_root_can_be_returned_to_and_nothing_else() -> None:
    there = found(root(FIRST), under=(FIRST,))
    require_own_disks(there, FIRST)
    with pytest.raises(RequestRefusedError):
        require_own_disks(there, SECOND)


def test_all_that_was_done_is_told_at_once() -> None:
    snapshots = (Snapshot("s1", layers=(f"/pool/{SECOND}.s1", f"/pool/{VOLUME}.s1")),)
    there = found(
        root(f"{SECOND}.s1", SECOND), data(f"/pool/{VOLUME}.s1", VOLUME), snapshots=snapshots
    )
    with pytest.raises(RequestRefusedError) as refusal:
        require_own_disks(there)
    assert "root volume" in refusal.value.message
    assert "data disk 'db'" in refusal.value.message
    assert (refusal.value.hint or "").count("virsh snapshot-delete web s1") == 1


def test_jobs_snapshots_and_checkpoints() -> None:
    with pytest.raises(RequestRefusedError, match="a backup of disk vda of 'web' is going on"):
        require_idle_disks(found(root(SECOND), jobs=(BlockJob("vda", "backup"),)))
    with pytest.raises(RequestRefusedError, match="'web' has 2 snapshots: a, b") as refusal:
        require_unkept(found(root(SECOND), snapshots=(Snapshot("a"), Snapshot("b"))))
    assert "virsh snapshot-delete web b && virsh snapshot-delete web a" in str(refusal.value.hint)
    with pytest.raises(RequestRefusedError, match="'web' has 1 checkpoint: a") as refusal:
        require_unkept(found(root(SECOND), live=(root(SECOND),), checkpoints=("a",)))
    assert str(refusal.value.hint).endswith(": virsh checkpoint-delete web a")
    # Libvirt deletes none of a domain that is off.
    with pytest.raises(RequestRefusedError) as refusal:
        require_unkept(found(root(SECOND), checkpoints=("a",)))
    assert str(refusal.value.hint).endswith(": virsh checkpoint-delete --metadata web a")


def test_a_machine_that_was_migrated_away_is_not_started_on_the_same_disks() -> None:
    away = observed(state="shut off", reason=MIGRATED)
    (made,) = planned(away).machines
    assert made.actions == ()
    assert made.refusal == "'web' was migrated away, and may run elsewhere, on the same disks"
    assert made.hint is not None
    assert "virsh start web" in made.hint
    (made,) = planned(observed(state="shut off", reason="its guest shut down")).machines
    assert made.refusal is None
