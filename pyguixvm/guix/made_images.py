# SPDX-License-Identifier: GPL-3.0-or-later
"""The newest image of each layout that was made on this machine, for whatever system.

Roots of other systems can stand on it.  Nothing here keeps Guix's garbage collector from it:
what is not there any more is not told of, and made again where it is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pyguixvm.guix.roots import lead_to
from pyguixvm.guix.store import is_built
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.model.image import SystemImage
from pyguixvm.model.volume_names import is_store_item


@dataclass(frozen=True)
class MadeImages:
    """What is known of such images, kept in STATE_DIRECTORY, which may not be there yet.

    BUILT tells whether a store item is there.
    """

    state_directory: Path
    built: Callable[[str], bool] = is_built

    def keep(self, machine: VirtualMachine, image: str) -> None:
        """Keep that IMAGE, a store item, was made for MACHINE, if it can be kept."""
        of = machine.image
        if not isinstance(of, SystemImage) or of.content is None:
            return  # nothing stands on one that is not of a Guix System
        with suppress(OSError):
            self._directory.mkdir(parents=True, exist_ok=True)
            lead_to(self._directory / of.content.layout, image)

    def there(self) -> dict[str, str]:
        """Return the images that are in the store, by their layouts."""
        found = {}
        for link in self._directory.glob("[!.]*"):
            with suppress(OSError):  # no link
                image = str(link.readlink())
                if is_store_item(image) and self.built(image):
                    found[link.name] = image
        return found

    @property
    def _directory(self) -> Path:
        return self.state_directory / "made-images"
