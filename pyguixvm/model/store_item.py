# SPDX-License-Identifier: GPL-3.0-or-later
"""What Guix's database says of store items."""

from __future__ import annotations

import stat

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


def mode_in_a_store(mode: int) -> int:
    """Return what MODE, of a file, directory or link, is in a store, whoever gave it another.

    As "canonicalize" of Guix's (guix store) has it: nobody writes to it, and nothing in it
    gives the rights of its owner, which is root.
    """
    if stat.S_ISLNK(mode):
        return stat.S_IFLNK | 0o777
    if stat.S_ISDIR(mode):
        return stat.S_IFDIR | 0o555
    return stat.S_IFMT(mode) | (0o555 if mode & stat.S_IXUSR else 0o444)


def hash_part(name: str) -> str:
    """Return the hash in NAME, a store item's name without its directory."""
    return name.partition("-")[0]
