# SPDX-License-Identifier: GPL-3.0-or-later
"""What counts as a difference between what was applied and what is declared."""

from __future__ import annotations

import msgspec
import pytest
from declarations import GIB, domain, machine, system

from pyguixvm.model.deployment import LocalImage, Location, TcpPortReady, VirtualMachine
from pyguixvm.reconcile.differences import Difference, differences

LOCAL = LocalImage(path="/x.qcow2", format="qcow2", size=1, modified=2)


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        (machine(domain=domain(memory=2 * GIB)), [("domain.memory", GIB, 2 * GIB)]),
        (machine(domain=domain(autostart=False)), [("domain.autostart", True, False)]),
        (machine(domain=domain(title="Web")), [("domain.title", None, "Web")]),
        (
            machine(domain=domain(cpu=2, maximum_cpu=2)),
            [("domain.cpu", 1, 2), ("domain.maximum-cpu", 1, 2)],
        ),
        (
            machine(image=system(output="/gnu/store/x-image")),
            [("image.output", system().output, "/gnu/store/x-image")],
        ),
    ],
)
def test_each_field_that_changes(
    declared: VirtualMachine, expected: list[tuple[str, object, object]]
) -> None:
    assert [(d.path, d.old, d.new) for d in differences(machine(), declared)] == expected


def test_an_image_of_another_kind_is_one_difference() -> None:
    (difference,) = differences(machine(), machine(image=LOCAL))
    assert difference == Difference(
        "image", msgspec.to_builtins(system()), msgspec.to_builtins(LOCAL)
    )


@pytest.mark.parametrize(
    "declared",
    [
        machine(),
        machine(location=Location(file="moved.scm", line=9, column=0)),
        machine(hypervisor="qemu:///system"),
        machine(ready=(TcpPortReady(port=22),)),
        machine(ready_timeout=5),
    ],
)
def test_what_is_no_property_of_the_machine(declared: VirtualMachine) -> None:
    assert differences(machine(), declared) == ()
