# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines that run from the store of their host: what is decoded, planned and shown."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from declarations import GIB, domain, machine, system
from test_planner import hardware, observed

from pyguixvm.cli.show import declared_line, plan_lines
from pyguixvm.image import overlay
from pyguixvm.image.blank import make_root
from pyguixvm.model.applied import Generation, Metadata
from pyguixvm.model.declaration import MountPoint, VirtualMachine
from pyguixvm.model.image import Derivation, DirectBoot, LocalImage, SharedStore
from pyguixvm.model.observation import Observation, ObservedDomain, SharedDirectory
from pyguixvm.plan.actions import (
    CreateEmptyRoot,
    CreateRoot,
    DefineDomain,
    RealizeImage,
    RealizeSystem,
    StartDomain,
    StopDomain,
)
from pyguixvm.plan.plan import MachinePlan, Policy, Strategy
from pyguixvm.plan.planner import plan
from pyguixvm.plan.status import applied_statuses, statuses
from pyguixvm.plan.strategies.choose import realizations

STORE = MountPoint(
    source="/gnu/store", target="/gnu/store", tag="pyguixvm-store", driver="9p", read_only=True
)
SHARED = SharedDirectory(tag="pyguixvm-store", source="/gnu/store", driver="9p", read_only=True)


def item(letter: str) -> str:
    return f"/gnu/store/{letter * 32}-system"


def shared(letter: str = "a") -> SharedStore:
    return SharedStore(
        host_name="web",
        label="GNU with Linux-Libre 6.17.12",
        kernel="linux-libre@6.17.12",
        root_label="pyguixvm-root",
        system=Derivation(derivation=f"{item(letter)}.drv", output=item(letter)),
        boot=DirectBoot(
            kernel=f"/gnu/store/{'k' * 32}-linux/bzImage",
            initrd=f"{item(letter)}/initrd",
            arguments=("root=pyguixvm-root", f"gnu.system={item(letter)}"),
        ),
    )


def declared(image: SharedStore | None = None, **fields: Any) -> VirtualMachine:
    return machine(image=image or shared(), domain=domain(mount_points=(STORE,), **fields))


def there(applied: VirtualMachine, **changes: Any) -> ObservedDomain:
    """Return a domain that is just as APPLIED."""
    there = hardware(directories=(SHARED,) if applied.domain.mount_points else ())
    generation = Generation(
        number=1,
        date="2026-01-01T00:00:00+00:00",
        label="GNU",
        pool="default",
        volume="pyguixvm-web.g1.qcow2",
        image=item("a"),
        declaration=applied,
    )
    metadata = Metadata(current=1, generations=(generation,))
    return observed(**({"defined": there, "live": there, "metadata": metadata} | changes))


def host(*domains: ObservedDomain, **changes: Any) -> Observation:
    fields: dict[str, Any] = {
        "uri": "qemu:///system",
        "local": True,
        "domains": {domain.name: domain for domain in domains},
        "store": "read-only",
    }
    return Observation(**(fields | changes))


def planned(
    wanted: VirtualMachine, observation: Observation, strategy: Strategy = "shared-store"
) -> MachinePlan:
    (found,) = plan([wanted], observation, policy=Policy(strategy=strategy)).machines
    return found


def test_it_is_decoded_as_it_was_encoded() -> None:
    wanted = declared()
    encoded = msgspec.json.encode(wanted)
    assert json.loads(encoded)["image"]["kind"] == "shared-store"
    assert msgspec.json.decode(encoded, type=VirtualMachine) == wanted


def test_a_new_machine_gets_a_system_and_an_empty_root() -> None:
    found = planned(declared(), host())
    assert (found.effect, found.strategy) == ("create", "shared-store")
    assert found.actions == (
        RealizeSystem(derivation=f"{item('a')}.drv", output=item("a")),
        CreateEmptyRoot(
            pool="default",
            volume="pyguixvm-web.g1.qcow2",
            size=10 * GIB,
            label="pyguixvm-root",
            system=item("a"),
        ),
        DefineDomain(generation=1, autostart=True),
        StartDomain(timeout=120),
    )
    assert realizations(found.actions) == [(f"{item('a')}.drv", item("a"))]


def test_what_runs_so_already_is_left_alone() -> None:
    found = planned(declared(), host(there(declared())))
    assert (found.actions, found.differences) == ((), ())


def test_a_changed_system_gets_a_new_root_and_can_be_taken_back() -> None:
    found = planned(declared(shared("b")), host(there(declared())))
    assert [type(action) for action in found.actions] == [
        RealizeSystem,
        CreateEmptyRoot,
        StopDomain,
        DefineDomain,
        StartDomain,
    ]
    assert (found.effect, found.fallback) == ("replace", 1)
    # That its kernel arguments name it is no difference of its own.
    assert {each.path for each in found.differences} == {
        "image.system.derivation",
        "image.system.output",
    }


@pytest.mark.parametrize(
    ("applied", "wanted", "strategy", "made"),
    [
        (machine(), declared(), "shared-store", (RealizeSystem, CreateEmptyRoot)),
        (declared(), machine(), "auto", (RealizeImage, CreateRoot)),
    ],
)
def test_the_way_there_and_back(
    applied: VirtualMachine, wanted: VirtualMachine, strategy: Strategy, made: tuple[type, ...]
) -> None:
    found = planned(wanted, host(there(applied)), strategy)
    assert tuple(type(action) for action in found.actions[:2]) == made
    assert (found.effect, found.foreign) == ("replace", ())
    assert [each.path for each in found.differences] == [
        "image",
        "domain.mount-points.pyguixvm-store",
    ]


LOCAL = LocalImage(path="/x.qcow2", format="qcow2", size=1, modified=2)


@pytest.mark.parametrize(
    ("wanted", "changes", "words"),
    [
        (machine(image=LOCAL), {}, "a disk image that is there already"),
        (declared(firmware="uefi"), {}, "(firmware 'uefi)"),
        (declared(), {"uri": "qemu+ssh://h/system", "local": False}, "is another machine"),
        (declared(), {"store": "absent"}, "has no /gnu/store"),
        (declared(), {"store": "writable"}, "/gnu/store is writable here"),
    ],
)
def test_what_cannot_run_so_is_refused(
    wanted: VirtualMachine, changes: dict[str, Any], words: str
) -> None:
    for observation in (host(**changes), host(there(wanted), **changes)):
        found = planned(wanted, observation)
        assert found.refusal is not None
        assert found.refusal.startswith("'web' cannot run from the shared store: ")
        assert words in found.refusal
        assert found.hint
        assert found.actions == ()


def test_status_says_where_it_runs_from() -> None:
    observation = host(there(declared()))
    (applied,) = applied_statuses(observation)
    assert applied.status == "deployed"
    assert applied.detail == "runs from the shared store of its host"
    (compared,) = statuses([machine()], observation)
    assert (compared.status, compared.detail) == ("drifted", applied.detail)
    (on_an_image,) = applied_statuses(host(there(machine())))
    assert on_an_image.detail is None


def test_a_person_is_told() -> None:
    assert "from the shared store" in declared_line(declared())
    observation = host(there(declared()))
    lines = list(plan_lines(plan([machine(image=system("c" * 32))], observation)))
    assert (
        "    image: none, the shared store of its host -> /gnu/store/cccccc…-disk-image "
        "(replace)" in lines
    )
    shown = plan([declared()], host(), policy=Policy(strategy="shared-store"))
    assert f"    build {item('a')}, and no image" in list(plan_lines(shown))


def test_its_root_is_an_empty_one_as_guix_makes_it(tmp_path: Path) -> None:
    root, raw = tmp_path / "root.qcow2", tmp_path / "raw"
    make_root(root, 5 * GIB, "pyguixvm-root", item("a"), tmp_path)
    assert overlay.inspect(root).virtual_size == 5 * GIB
    assert overlay.inspect(root).actual_size < 20 * 1024**2
    overlay.convert_to_raw(root, "qcow2", raw)
    subprocess.run(["e2fsck", "-fn", raw], check=True, capture_output=True)
    label = subprocess.check_output(["e2label", raw], text=True)
    assert label.strip() == "pyguixvm-root"

    def told(command: str) -> str:
        return subprocess.check_output(
            ["debugfs", "-R", command, raw], text=True, stderr=subprocess.DEVNULL
        )

    for name, mode in {"/tmp": "01777", "/var/log": "0755", "/gnu/store": "0755"}.items():
        status = told(f"stat {name}")
        assert f"Mode:  {mode}" in status
        assert "User:     0   Group:     0" in status
    assert f'Fast link dest: "{item("a")}"' in told("stat /var/guix/profiles/system-1-link")
