# SPDX-License-Identifier: GPL-3.0-or-later
"""What an increment adds to an image, and whether it is worth it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pyguixvm.guix.store import Store, is_built
from pyguixvm.image import ext4_metadata
from pyguixvm.image import increment as increments
from pyguixvm.model.image import ImageContent
from pyguixvm.model.store_item import StoreItem
from pyguixvm.plan.actions import CreateRoot

# What changed counts as little up to this part of what there is.
LARGEST_INCREMENT = 0.5


@dataclass(frozen=True)
class Addition:
    """The ITEMS of the store that an increment has beyond its BASE."""

    base: increments.Base
    items: tuple[StoreItem, ...]

    @property
    def size(self) -> int:
        """How large they are (bytes)."""
        return sum(item.nar_size for item in self.items)


def addition(
    action: CreateRoot, content: ImageContent, directory: Path, store: Store
) -> Addition | str:
    """Return what ACTION adds to its image for CONTENT, or why a whole image is better.

    It is if much is to be added, if the image could not be grown without moving data, or is that
    of a machine with more storage.  The image is examined in DIRECTORY.  Raises ImageError,
    RequestRefusedError if it cannot be grown at all, and CommandFailedError.
    """
    image = Path(action.image)
    if not is_built(action.image):
        return "the image that it was to stand on was collected"
    if image.stat().st_size > action.size:
        return "the image that it was to stand on is larger than the declared storage"
    base = increments.examine(image, directory)
    wanted = [content.system.output, content.boot_configuration.output]
    found = Addition(base, store.items_beyond(base.registered.items, wanted))
    if found.size > base.registered.size * LARGEST_INCREMENT:
        return "too much has changed for an increment"
    if not ext4_metadata.suits(image, "raw", action.size):
        return "the image that it was to stand on cannot grow that far as it is"
    return found
