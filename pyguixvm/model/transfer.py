# SPDX-License-Identifier: GPL-3.0-or-later
"""How the bits of a disk image get to a hypervisor elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec

# What a user may ask for; "auto" takes what sends less.
Via: TypeAlias = Literal["upload", "store", "auto"]


class Lacking(msgspec.Struct, frozen=True):
    """What the store of a hypervisor lacks of what an image is made of.

    ITEMS are not there; FETCHED, some of them, it can get itself from where it gets substitutes,
    by the bytes that this takes.
    """

    items: frozenset[str] = frozenset()
    fetched: Mapping[str, int] = {}

    @property
    def sent(self) -> frozenset[str]:
        """The items that it cannot get but from here."""
        return self.items - self.fetched.keys()


class Transfer(msgspec.Struct, frozen=True, rename="kebab"):
    """What it takes to have an image on a hypervisor: SIZE bytes are sent, before compression.

    WAY is "upload" if these are its bits; "store" if it is composed there of ITEMS of the store
    there: of these, SENT are sent, and FETCHED are fetched by that host, FETCHED_SIZE bytes.
    REASON says why it is an upload although the store was asked for.
    """

    way: Literal["upload", "store"]
    size: int
    items: int = 0
    sent: int = 0
    fetched: int = 0
    fetched_size: int = 0
    reason: str | None = None
