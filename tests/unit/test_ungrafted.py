# SPDX-License-Identifier: GPL-3.0-or-later
"""Systems whose grafts nobody knows yet are compared without them; pure."""

from __future__ import annotations

from typing import Any

import pytest
from declarations import machine, system

from pyguixvm.model.applied import Generation, Metadata
from pyguixvm.model.image import Derivation, Image, SharedStore
from pyguixvm.model.observation import Hardware, ObservedDomain
from pyguixvm.plan.drift import differences

HARDWARE = Hardware(
    cpu=1, maximum_cpu=1, memory=1, maximum_memory=1, domain_type="qemu", interfaces=(),
    disks=(), plain={},
)  # fmt: skip


def shared(item: str, **changes: Any) -> SharedStore:
    return SharedStore(
        host_name="web",
        label="GNU",
        kernel="linux-libre@6",
        root_label="root",
        system=Derivation(derivation=f"/gnu/store/{item}.drv", output=f"/gnu/store/{item}"),
        **changes,
    )


def paths(applied: Image, declared: Image) -> list[str]:
    """Return what of the image DECLARED differs from that which was APPLIED."""
    generation = Generation(
        number=1, date="", label="", pool="default", volume="v", image="",
        declaration=machine(image=applied),
    )  # fmt: skip
    there = ObservedDomain(
        name="web", uuid="", state="shut off", autostart=True, persistent=True,
        defined=HARDWARE, live=None, metadata=Metadata(current=1, generations=(generation,)),
    )  # fmt: skip
    found = differences(machine(image=declared), there)
    return [each.path for each in found if each.path.startswith("image")]


GRAFTED = system()
OTHER = {"derivation": "/gnu/store/z.drv", "output": "/gnu/store/z"}


@pytest.mark.parametrize(
    ("declared", "different"),
    [
        (system(**OTHER), ["image.derivation", "image.output"]),
        (system(**OTHER, grafted=False), []),
        (system(**OTHER, grafted=False, system="/gnu/store/y.drv"), ["image.system"]),
    ],
)
def test_an_image(declared: Image, different: list[str]) -> None:
    assert paths(GRAFTED, declared) == different


@pytest.mark.parametrize(
    ("applied", "declared", "different"),
    [
        ("a", shared("b", ungrafted="a"), ["image.system.derivation", "image.system.output"]),
        ("a", shared("b", ungrafted="a", grafted=False), []),
        ("b", shared("b", ungrafted="b", grafted=False), ["image.ungrafted"]),
    ],
)
def test_a_shared_store(applied: str, declared: Image, different: list[str]) -> None:
    assert paths(shared(applied, ungrafted="a"), declared) == different


def test_a_generation_that_does_not_tell_its_ungrafted_system_is_compared_with_grafts() -> None:
    declared = shared("b", ungrafted="b", grafted=False)
    assert "image.system.output" in paths(shared("a"), declared)
    assert paths(shared("a"), shared("a", ungrafted="b")) == []
