# SPDX-License-Identifier: GPL-3.0-or-later
"""What of Guix's store is in the images that volumes are made of."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pyguixvm.apply.addition import Addition
from pyguixvm.guix.store import is_built
from pyguixvm.image import increment
from pyguixvm.image.overlay import ImageError
from pyguixvm.image.workplace import workplace
from pyguixvm.process import CommandFailedError


@dataclass(frozen=True)
class Contents:
    """What of the store is in an image: items, and their SIZES (bytes).

    They refer to each other, and to those that are REQUIRED besides.
    """

    sizes: Mapping[str, int] = field(default_factory=dict)
    required: Collection[str] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """What has to be there for them to be there."""
        return (*self.sizes, *self.required)

    @property
    def here(self) -> frozenset[str]:
        """Those that this machine has."""
        return frozenset(item for item in self.sizes if is_built(item))


def contents_of(image: Path) -> Contents:
    """Return what IMAGE itself lists; nothing if it lists nothing that can be read."""
    try:
        with workplace() as directory:
            return Contents(increment.examine(image, directory).registered.sizes)
    except (ImageError, CommandFailedError):
        return Contents()


def contents_of_addition(added: Addition) -> Contents:
    """Return what ADDED has beyond its base."""
    sizes = {item.path: item.nar_size for item in added.items}
    references = {each for item in added.items for each in item.references}
    return Contents(sizes, references - sizes.keys())
