# SPDX-License-Identifier: GPL-3.0-or-later
"""One difference between a machine and its declaration; pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

import msgspec

Value: TypeAlias = bool | int | str | list["Value"] | dict[str, "Value"] | None
Effect: TypeAlias = Literal["none", "live", "restart", "replace", "create", "delete"]

ABSENT = "absent"


class Difference(msgspec.Struct, frozen=True, rename="kebab"):
    """PATH (``domain.memory``) is OLD and declared as NEW; to mend it has EFFECT.

    PENDING: it is defined as declared already, but takes effect with the next start.
    """

    path: str
    old: Value
    new: Value
    effect: Effect
    pending: bool = False


def compare(
    path: str, wanted: Value, defined: Value, live: Value, effect: Effect = "restart"
) -> Iterator[Difference]:
    """Yield the difference of WANTED and what is DEFINED or LIVE, None if it does not run.

    Without a running guest, or if it has what is wanted, defining is enough.
    """
    if live is not None and live != wanted:
        pending = effect == "restart" and defined == wanted
        yield Difference(path=path, old=live, new=wanted, effect=effect, pending=pending)
    elif defined != wanted:
        yield Difference(path=path, old=defined, new=wanted, effect="live")
