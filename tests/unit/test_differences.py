# SPDX-License-Identifier: GPL-3.0-or-later
"""How a difference is told to a person."""

from __future__ import annotations

import pytest
from declarations import GIB, machine, system

from pyguixvm.cli.differences import difference_lines
from pyguixvm.model.declaration import AddressReady, ConsoleReady, TcpPortReady
from pyguixvm.model.difference import Difference, Effect, Value
from pyguixvm.plan.drift import _of_the_root, _of_what_is_remembered


def line(path: str, old: Value, new: Value, effect: Effect = "live") -> str:
    (found,) = difference_lines([Difference(path, old, new, effect)])
    return found


def test_another_operating_system_is_told_by_what_changed_and_once() -> None:
    old = machine()
    new = machine(image=system("b" * 32, host_name="db", kernel="linux-libre@6.18"))
    assert list(difference_lines(_of_the_root(old, new))) == [
        "host name: web -> db (replace)",
        "kernel: linux-libre@6.17.12 -> linux-libre@6.18 (replace)",
        "operating system: /gnu/store/aaaaaa…-system -> /gnu/store/bbbbbb…-system (replace)",
    ]


def test_another_image_of_one_system_is_told_once() -> None:
    same = {"system": f"/gnu/store/{'a' * 32}-system.drv"}
    new = machine(image=system("b" * 32, **same))
    (told,) = difference_lines(_of_the_root(machine(), new))
    assert told.startswith("image: /gnu/store/aaaaaa…-disk-image -> ")


def test_readiness_is_told_as_it_is_declared() -> None:
    old, new = (
        machine(ready=(AddressReady(),)),
        machine(ready=(TcpPortReady(22), ConsoleReady('say "hi"'))),
    )
    (told,) = difference_lines(_of_what_is_remembered(old, new))
    assert told == r'ready: (address) -> (tcp-port 22) (console "say \"hi\"") (live)'
    assert line("ready", [], [{"kind": "address"}]) == "ready: () -> (address) (live)"


def test_a_larger_root_is_a_fresh_one() -> None:
    told = line("domain.storage", 10 * GIB, 20 * GIB, "replace")
    assert "10G -> 20G (replace: makes a fresh root" in told


@pytest.mark.parametrize(
    ("value", "shown"),
    [("two\nlines", r"two\nlines"), ("\x1b[2J", r"\x1b[2J"), ("\u202eabc", r"\u202eabc")],
)
def test_nothing_steers_the_terminal_or_tears_the_lines(value: str, shown: str) -> None:
    assert line("domain.description", None, value) == (
        f"domain.description: not set -> {shown} (live)"
    )
    assert line(value, 1, 2) == f"{shown}: 1 -> 2 (live)"
