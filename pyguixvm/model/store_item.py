# SPDX-License-Identifier: GPL-3.0-or-later
"""What Guix's database says of store items."""

from __future__ import annotations

import msgspec


class StoreItem(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """The store item at PATH, and the items that it refers to, itself among them if it does.

    HASH is ``sha256:`` and the digest of its archive in base 16, NAR_SIZE the
    archive's size (bytes).
    """

    path: str
    hash: str
    nar_size: int
    references: tuple[str, ...]


def hash_part(name: str) -> str:
    """Return the hash in NAME, a store item's name without its directory."""
    return name.partition("-")[0]
