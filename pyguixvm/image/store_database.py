# SPDX-License-Identifier: GPL-3.0-or-later
"""Guix's database of store items in an image: what it lists, and listing more.

The schema is ``guix/store/schema.sql`` in Guix; items get the time and the lack
of a deriver that they have in an image of Guix's (``register-closure`` in
``gnu/build/image.scm``).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from pyguixvm.image.overlay import ImageError
from pyguixvm.model.store_item import StoreItem

FILE = "/var/guix/db/db.sqlite"
MODE = 0o644

# The epoch, as Guix has it (%epoch in guix/store/database.scm).
_REGISTERED = 1


class Registered(msgspec.Struct, frozen=True):
    """The store items that a database lists, by file name, and their SIZES (bytes)."""

    sizes: Mapping[str, int]

    @property
    def items(self) -> frozenset[str]:
        """Their file names."""
        return frozenset(self.sizes)

    @property
    def size(self) -> int:
        """How large they are together (bytes)."""
        return sum(self.sizes.values())


def read(database: Path) -> Registered:
    """Return what DATABASE lists.  Raises ImageError."""
    with _open(database) as connection:
        found = dict(connection.execute("select path, ifnull(narSize, 0) from ValidPaths"))
    return Registered(found)


def add(database: Path, items: Iterable[StoreItem]) -> None:
    """List ITEMS in DATABASE, which has none of them and all that they refer to else.

    Raises ImageError.
    """
    items = tuple(items)
    with _open(database) as connection:
        connection.executemany(
            "insert into ValidPaths (path, hash, registrationTime, narSize) values (?, ?, ?, ?)",
            [(item.path, item.hash, _REGISTERED, item.nar_size) for item in items],
        )
        numbers = dict(connection.execute("select path, id from ValidPaths"))
        connection.executemany(
            "insert into Refs (referrer, reference) values (?, ?)",
            [
                (numbers[item.path], numbers[reference])
                for item in items
                for reference in item.references
            ],
        )
        connection.commit()


@contextmanager
def _open(database: Path) -> Iterator[sqlite3.Connection]:
    # Closing it merges the write-ahead log that Guix's databases have: one file is all.
    try:
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("pragma synchronous = off")
            yield connection
    except (sqlite3.Error, KeyError) as error:
        raise ImageError(f"the base's database of store items cannot be used: {error}") from error
