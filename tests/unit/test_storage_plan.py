# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans for disks beside the root, and for directories of the host."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from declarations import GIB, domain, machine
from test_planner import applied, hardware, observed

from pyguixvm.model.data_record import DataRecord, FoundRecord
from pyguixvm.model.declaration import BlockDevice, DataDisk, MountPoint, VirtualMachine
from pyguixvm.model.observation import Observation, ObservedDomain, SharedDirectory
from pyguixvm.plan.actions import (
    AttachDisk,
    CreateDisk,
    CreateRoot,
    DefineDomain,
    DetachDisk,
    GrowDisk,
    RealizeImage,
    StartDomain,
    StopDomain,
)
from pyguixvm.plan.drift import foreign_devices
from pyguixvm.plan.ownership import Owner
from pyguixvm.plan.plan import MachinePlan
from pyguixvm.plan.planner import plan

ROOT = "/pool/pyguixvm-web.g1.qcow2"
DB = "pyguixvm-web.db.qcow2"
DEVICE = "/dev/disk/by-id/ata-1"
SHARE = MountPoint(source="/srv", target="/data", tag="data", driver="virtiofs", read_only=False)


def disk(size: int = GIB, **changes: Any) -> DataDisk:
    fields = {"name": "db", "size": size, "file_system": "ext4", "target": None}
    return DataDisk(**(fields | changes))


def with_disks(*disks: DataDisk | BlockDevice, **changes: Any) -> VirtualMachine:
    return machine(domain=domain(disks=disks), **changes)


def deployed(
    declared: VirtualMachine, *paths: str, live: tuple[str, ...] | None = None, **sizes: int
) -> ObservedDomain:
    """Return a running machine DECLARED so, with disks at PATHS (LIVE: others while it runs)."""
    return observed(
        metadata=applied(domain=declared.domain),
        defined=hardware(disks=(ROOT, *paths)),
        live=hardware(disks=(ROOT, *(paths if live is None else live))),
        capacities={f"pyguixvm-web.{name}.qcow2": size for name, size in sizes.items()},
    )


def planned(
    declared: VirtualMachine,
    found: ObservedDomain | None,
    *volumes: str,
    recorded: tuple[FoundRecord, ...] = (),
    owner: Owner | None = None,
) -> MachinePlan:
    domains = {} if found is None else {found.name: found}
    observation = Observation(
        uri="test:///",
        local=True,
        domains=domains,
        volumes=volumes,
        pools={"default": volumes},
        recorded=recorded,
    )
    return plan([declared], observation, owner=owner or Owner()).machines[0]


def kept(found: str | None = None, **fields: Any) -> FoundRecord:
    """Return the record of the volume that was kept; FOUND is the identity of what is there."""
    return FoundRecord(DataRecord("default", DB, **fields), found)


def kinds(found: MachinePlan) -> list[type]:
    return [type(action) for action in found.actions]


CREATED = CreateDisk(disk="db", pool="default", volume=DB, size=GIB, file_system="ext4")


def test_a_new_machine_gets_its_disks_before_its_definition() -> None:
    found = planned(with_disks(disk(), BlockDevice(DEVICE)), None)
    assert kinds(found) == [RealizeImage, CreateRoot, CreateDisk, DefineDomain, StartDomain]
    assert CREATED in found.actions


def test_a_volume_that_was_kept_is_used_again() -> None:
    found = planned(with_disks(disk(2 * GIB)), None, DB, recorded=(kept(),))
    assert kinds(found) == [RealizeImage, CreateRoot, GrowDisk, DefineDomain, StartDomain]
    assert GrowDisk(disk="db", volume=DB, size=2 * GIB) in found.actions


@pytest.mark.parametrize(
    ("recorded", "said"),
    [
        ((), "there is no record that it was made for it"),
        ((kept("b", identity="a"),), "another one has taken its place"),
        ((kept(None, identity="a"),), "another one has taken its place"),
        ((kept(deployment="infra"),), "holds data of 'web' of deployment 'infra'"),
        ((kept(file_system="btrfs"),), "holds btrfs; data disk 'db' is declared as ext4"),
        ((kept(size=2 * GIB),), "a data disk never shrinks"),
    ],
)
def test_a_volume_is_not_used_again_by_its_name_alone(
    recorded: tuple[FoundRecord, ...], said: str
) -> None:
    found = planned(with_disks(disk()), None, DB, recorded=recorded)
    assert found.actions == ()
    assert said in (found.refusal or "")
    assert "pyguixvm volumes" in (found.hint or "") or "never shrinks" in said


def test_what_a_deployment_kept_it_takes_up_again() -> None:
    record = kept("a", identity="a", deployment="infra", size=GIB, file_system="ext4")
    found = planned(with_disks(disk()), None, DB, recorded=(record,), owner=Owner("infra"))
    assert found.refusal is None
    assert GrowDisk in kinds(found)


def test_what_was_made_and_is_not_there_is_not_made_anew() -> None:
    found = planned(with_disks(disk()), None, recorded=(kept(),))
    assert found.actions == ()
    assert "where it was made" in (found.refusal or "")
    # What was perhaps never made to the end may be.
    assert CREATED in planned(with_disks(disk()), None, recorded=(kept(making=True),)).actions


def test_what_is_as_declared_stays_as_it_is() -> None:
    declared = with_disks(disk(), BlockDevice(DEVICE))
    found = planned(declared, deployed(declared, f"/pool/{DB}", DEVICE, db=GIB), DB)
    assert found.actions == ()
    assert found.foreign == ()


@pytest.mark.parametrize(
    ("before", "after", "attached", "volumes", "actions"),
    [
        pytest.param(
            (), (disk(),), (), (), [CREATED, DefineDomain, AttachDisk(DB)], id="a disk is added"
        ),
        pytest.param(
            (),
            (BlockDevice(DEVICE),),
            (),
            (),
            [DefineDomain, AttachDisk(DEVICE)],
            id="a host's disk is added",
        ),
        pytest.param(
            (disk(),), (), (DB,), (DB,), [DetachDisk(DB), DefineDomain], id="a disk is taken out"
        ),
        pytest.param(
            (BlockDevice(DEVICE),),
            (),
            (DEVICE,),
            (),
            [DetachDisk(DEVICE), DefineDomain],
            id="a host's disk is taken out",
        ),
        pytest.param(
            (disk(),),
            (disk(2 * GIB),),
            (DB,),
            (DB,),
            [GrowDisk("db", DB, 2 * GIB), DefineDomain],
            id="a disk grows",
        ),
        pytest.param(
            (disk(),),
            (disk(),),
            (),
            (DB,),
            [GrowDisk("db", DB, GIB), DefineDomain, AttachDisk(DB)],
            id="a disk was detached",
        ),
        pytest.param(
            (),
            (),
            ("pyguixvm-web.old.qcow2",),
            ("pyguixvm-web.old.qcow2",),
            [DetachDisk("pyguixvm-web.old.qcow2"), DefineDomain],
            id="our volume was attached by hand",
        ),
    ],
)
def test_disks_change_while_the_guest_runs(
    before: tuple[Any, ...],
    after: tuple[Any, ...],
    attached: tuple[str, ...],
    volumes: tuple[str, ...],
    actions: list[Any],
) -> None:
    sizes = {"db": GIB} if DB in attached else {}
    found = planned(with_disks(*after), deployed(with_disks(*before), *attached, **sizes), *volumes)
    assert found.effect == "live"
    shown = [action if action in actions else type(action) for action in found.actions]
    assert shown == actions


def test_a_mounted_disk_that_was_pulled_out_comes_back_with_a_restart() -> None:
    declared = with_disks(disk(target="/srv"))
    found = planned(declared, deployed(declared, DB, live=(), db=GIB), DB)
    assert found.effect == "restart"
    assert [d.pending for d in found.differences] == [True]
    assert kinds(found) == [StopDomain, StartDomain]


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (disk(GIB // 2), "has 1G and is declared with 512M: a data disk never shrinks"),
        (disk(GIB - 1024), "has 1G and is declared with 1048575K: a data disk never shrinks"),
        (disk(file_system="btrfs"), "holds ext4 and is declared as btrfs"),
    ],
)
def test_what_would_cost_data_is_refused(after: DataDisk, words: str) -> None:
    found = planned(with_disks(after), deployed(with_disks(disk()), DB, db=GIB), DB)
    assert found.actions == ()
    assert found.refusal is not None
    assert words in found.refusal
    assert found.hint is not None
    assert "under another name" in found.hint


def test_a_disk_of_another_size_is_no_difference_of_the_root() -> None:
    before, after = with_disks(disk()), with_disks(disk(2 * GIB))
    found = planned(after, deployed(before, DB, db=GIB), DB)
    assert [(d.path, d.old, d.new, d.effect) for d in found.differences] == [
        ("domain.disks.db.size", GIB, 2 * GIB, "live")
    ]


def test_shared_directories_change_with_a_restart() -> None:
    before = machine(domain=domain(mount_points=(SHARE,)))
    moved = msgspec.structs.replace(SHARE, source="/srv/new")
    shared = SharedDirectory(tag="data", source="/srv", driver="virtiofs", read_only=False)
    there = hardware(directories=(shared,))
    running = observed(metadata=applied(domain=before.domain), defined=there, live=there)
    assert planned(before, running).actions == ()
    found = planned(machine(domain=domain(mount_points=(moved,))), running)
    assert [(d.old, d.new, d.effect) for d in found.differences] == [
        ("/srv by virtiofs", "/srv/new by virtiofs", "restart")
    ]
    gone = planned(machine(), running)
    assert [(d.old, d.new) for d in gone.differences] == [("/srv by virtiofs", "absent")]


def test_what_others_attached_is_foreign_and_stays() -> None:
    declared = with_disks(disk())
    theirs = SharedDirectory(tag="x", source="/theirs", driver="9p", read_only=True)
    there = hardware(disks=(ROOT, DB, "/srv/their.img", "/dev/sdx"), directories=(theirs,))
    running = observed(
        metadata=applied(domain=declared.domain),
        defined=there,
        live=there,
        capacities={DB: GIB},
    )
    assert planned(declared, running, DB).actions == ()
    assert foreign_devices(declared, running) == (
        "disk /srv/their.img",
        "disk /dev/sdx",
        "directory /theirs",
    )


def test_a_volume_of_another_pool_is_neither_used_nor_passed_over() -> None:
    observation = Observation(
        uri="test:///",
        local=True,
        domains={},
        volumes=(DB,),
        pools={"backup": (DB,), "default": ()},
    )
    (found,) = plan([with_disks(disk())], observation).machines
    assert found.actions == ()
    assert "not in pool 'default'" in str(found.refusal)
    assert "in pool 'backup'" in str(found.refusal)
    assert '(pool "backup")' in str(found.hint)


@pytest.mark.parametrize(("paths", "words"), [((f"/pool/{DB}",), "/pool/"), ((), "'default'")])
def test_a_volume_that_is_gone_is_not_made_anew(paths: tuple[str, ...], words: str) -> None:
    declared = with_disks(disk())
    found = planned(declared, deployed(declared, *paths))
    assert found.actions == ()
    assert f"volume '{DB}' of data disk 'db' is not " in str(found.refusal)
    assert words in str(found.refusal)
    assert [(d.path, d.new, d.effect) for d in found.differences if d.old == "gone"] == (
        [("domain.disks.db", "attached", "none")] if paths else []
    )
    # There is no record that one could have forgotten.
    assert "deploy, and declare it again" in str(found.hint)
    assert "forget" not in str(found.hint)
    assert planned(machine(), deployed(declared, *paths)).refusal is None
    assert CREATED in planned(declared, deployed(machine())).actions


def test_a_disk_that_somebody_else_uses_goes_to_no_machine_that_is_there_either() -> None:
    there = deployed(with_disks())
    rescue = observed(
        name="rescue", metadata=None, defined=hardware(disks=(f"/pool/{DB}",), interfaces=())
    )
    observation = Observation(
        uri="test:///",
        local=True,
        domains={"web": there, "rescue": rescue},
        volumes=(DB,),
        pools={"default": (DB,)},
        recorded=(kept(),),
    )
    found = plan([with_disks(disk())], observation).machines[0]
    assert found.actions == ()
    assert f"{DB}, which domain 'rescue' uses" in (found.refusal or "")
