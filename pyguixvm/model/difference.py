# SPDX-License-Identifier: GPL-3.0-or-later
"""One difference between a machine and its declaration."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

# What JSON has, at any depth.
Value: TypeAlias = bool | int | str | list[Any] | dict[str, Any] | None
Effect: TypeAlias = Literal["none", "live", "restart", "replace", "create", "delete"]


class Difference(msgspec.Struct, frozen=True, rename="kebab"):
    """PATH (``domain.memory``) is OLD and declared as NEW; to mend it has EFFECT.

    PENDING: it is defined as declared already, but takes effect with the next start.
    """

    path: str
    old: Value
    new: Value
    effect: Effect
    pending: bool = False
