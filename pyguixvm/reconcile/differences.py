# SPDX-License-Identifier: GPL-3.0-or-later
"""How a declaration differs from what was applied; pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import msgspec

from pyguixvm.model.deployment import VirtualMachine

Value: TypeAlias = bool | int | str | list["Value"] | dict[str, "Value"] | None

# Where something was declared is no property of the machine, and the path of the
# hypervisor is how we came to compare the two in the first place.
_IGNORED = frozenset({"location", "hypervisor"})

# What readiness means concerns the waiting, not the machine: it applies from now on.
_NOT_OF_THE_MACHINE = frozenset({"ready", "ready-timeout"})


class Difference(msgspec.Struct, frozen=True, rename="kebab"):
    """PATH (``domain.memory``) was applied as OLD and is declared as NEW."""

    path: str
    old: Value
    new: Value


def differences(applied: VirtualMachine, declared: VirtualMachine) -> tuple[Difference, ...]:
    """Return what changes from APPLIED to DECLARED, in the order of the fields.

    An image of another kind is one difference, not one for each of its fields.
    """
    old = _comparable(applied)
    new = _comparable(declared)
    return tuple(_walk("", old, new))


def _comparable(machine: VirtualMachine) -> dict[str, Value]:
    fields: dict[str, Value] = msgspec.to_builtins(machine)
    return {
        key: value
        for key, value in fields.items()
        if key not in _IGNORED and key not in _NOT_OF_THE_MACHINE
    }


def _walk(path: str, old: Value, new: Value) -> Iterator[Difference]:
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict) and old.get("kind") == new.get("kind"):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _walk(f"{path}.{key}" if path else key, old.get(key), new.get(key))
    else:
        yield Difference(path=path, old=old, new=new)
