# SPDX-License-Identifier: GPL-3.0-or-later
"""What was applied to a hypervisor, as the domain's own metadata remembers it."""

from __future__ import annotations

import msgspec

from pyguixvm.model.deployment import VirtualMachine


class Generation(msgspec.Struct, frozen=True, rename="kebab"):
    """One state of a machine that can be returned to.

    DATE is UTC in ISO 8601; VOLUME names the root volume in POOL, and IMAGE
    is what it was made from: a store item, or a local image's file name.
    BASE names the base volume, or is None where the store item itself is
    the backing file.
    """

    number: int
    date: str
    label: str
    pool: str
    volume: str
    image: str
    declaration: VirtualMachine
    base: str | None = None


class Metadata(msgspec.Struct, frozen=True, rename="kebab"):
    """The content of our ``<metadata>`` element of one domain."""

    current: int
    generations: tuple[Generation, ...]

    @property
    def generation(self) -> Generation:
        """The current generation; raises LookupError if it is not among them."""
        for generation in self.generations:
            if generation.number == self.current:
                return generation
        raise LookupError(f"generation {self.current}")
