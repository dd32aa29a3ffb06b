# SPDX-License-Identifier: GPL-3.0-or-later
"""What was applied to a hypervisor, as the domain's own metadata remembers it."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from pyguixvm.model.arrival import Arrival
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.model.image import SharedStore, SystemImage
from pyguixvm.model.provenance import Provenance


class LastDeploy(msgspec.Struct, frozen=True, rename="kebab", omit_defaults=True):
    """Who, ``user@host``, last deployed a generation, and when that began (UTC in ISO 8601).

    It took SECONDS until it was over, None where nobody was there to say so.  FAILED: it did
    not do all that it was to.
    """

    by: str
    date: str
    seconds: float | None = None
    failed: bool = False


class Generation(msgspec.Struct, frozen=True, rename="kebab", omit_defaults=True):
    """One state of a machine that can be returned to.

    DATE is UTC in ISO 8601; VOLUME names the root volume in POOL, and IMAGE
    is what it stands on: a store item, or a local image's file name.
    BASE names the base volume, or is None where the store item itself is
    the backing file.  INCREMENT is the size (bytes) of the store items that
    the volume has and the image lacks, None for the image as it is.  UNDER names
    the volumes in POOL between VOLUME and the image, nearest first: those of
    generations that were changed in place.  PINNED_UUID is then what the root
    file system is found by, whatever the declaration says, and ACTIVATED the system, a
    store item, that its guest was last known to have been given, by SWITCHED_BY, a program that
    the guest has with all that it refers to.  CHANGING: the guest is
    being changed in place, and what it runs is not known if that does not end.  DOWNTIME
    is how long (seconds) the machine was away when it switched to this
    generation.  FAILED: it was not ready in time.  UNSEEN: its guest was started, and nobody
    has seen it ready since.  UNVERIFIED: it was waited for in vain, which said nothing of it.
    DEPLOY is the last that there was of it, and PROVENANCE the
    commits of the channels and of the configuration that it declared, None where a pyguixvm
    made this that did not record them.
    """

    number: int
    date: str
    label: str
    pool: str
    volume: str
    image: str
    declaration: VirtualMachine
    base: str | None = None
    increment: int | None = None
    under: tuple[str, ...] = ()
    pinned_uuid: str | None = None
    activated: str | None = None
    switched_by: str | None = None
    changing: bool = False
    kernel: str | None = None
    downtime: float | None = None
    failed: bool = False
    unseen: bool = False
    unverified: bool = False
    deploy: LastDeploy | None = None
    provenance: Provenance | None = None

    @property
    def volumes(self) -> tuple[str, ...]:
        """The names of its root volume and of those under it, nearest first."""
        return (self.volume, *self.under)

    @property
    def system(self) -> str | None:
        """The system, a store item, that is on its root volume, None where that is not known."""
        image = self.declaration.image
        content = image.content if isinstance(image, SystemImage) else None
        of_the_image = content.system.output if content and not self.pinned_uuid else None
        return self.activated or of_the_image

    @property
    def runs(self) -> str | None:
        """The system, a store item, that its guest is to run, None where that is not known.

        It is on its root volume, or in the store that it shares with its host.
        """
        image = self.declaration.image
        shared = image.system if isinstance(image, SharedStore) else None
        return shared.output if shared else self.system

    @property
    def root_uuid(self) -> str | None:
        """What the root file system is found by, None where that is not known."""
        image = self.declaration.image
        content = image.content if isinstance(image, SystemImage) else None
        return self.pinned_uuid or (content.root_uuid if content else None)


class Merging(msgspec.Struct, frozen=True, rename="kebab"):
    """Root VOLUMES of POOL, each of which stands on the next, become one: the last."""

    pool: str
    volumes: tuple[str, ...]

    @property
    def addresses(self) -> tuple[tuple[str, str], ...]:
        """Pool and name of each of the volumes."""
        return tuple((self.pool, volume) for volume in self.volumes)


class Tried(msgspec.Struct, frozen=True, rename="kebab"):
    """A throwaway copy got ready on DATE (UTC in ISO 8601); DIGEST is of all that it was."""

    digest: str
    date: str


class Metadata(msgspec.Struct, frozen=True, rename="kebab", omit_defaults=True):
    """The content of our ``<metadata>`` element of one domain.

    FALLBACK is the generation to return to, as long as the CURRENT one has
    not been seen ready.  DEPLOYMENT is the name of the deployment that the machine
    belongs to, None if that has none.  UUID is that of its domain, which tools that copy
    domains change in all places but this; it is None where a pyguixvm wrote this that did
    not know of it.  ARRIVAL is how it came from another hypervisor, until that is over.  MERGING
    is what was begun to be made one volume, and may not be over.  TRIED is the last throwaway copy
    that got ready.
    """

    current: int
    generations: tuple[Generation, ...]
    fallback: int | None = None
    deployment: str | None = None
    uuid: str | None = None
    arrival: Arrival | None = None
    merging: Merging | None = None
    tried: Tried | None = None

    @property
    def generation(self) -> Generation:
        """The current generation; raises LookupError if it is not among them."""
        return self.find(self.current)

    @property
    def machine(self) -> str:
        """The name of the machine; raises LookupError as `generation` does."""
        return self.generation.declaration.name

    @property
    def previous(self) -> Generation | None:
        """The generation before the current one, if it is still there and was ready."""
        earlier = [g for g in self.generations if g.number < self.current and not g.failed]
        return max(earlier, key=lambda generation: generation.number, default=None)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers of all generations."""
        return tuple(generation.number for generation in self.generations)

    @property
    def volumes(self) -> frozenset[str]:
        """The names of all root volumes, and of those that they stand on."""
        return frozenset(name for _, name in self.roots)

    @property
    def roots(self) -> tuple[tuple[str, str], ...]:
        """Pool and name of each root volume, and of those that they stand on, once."""
        found = [(each.pool, volume) for each in self.generations for volume in each.volumes]
        if self.merging is not None:
            found += self.merging.addresses
        return tuple(dict.fromkeys(found))

    def find(self, number: int) -> Generation:
        """Return generation NUMBER; raises LookupError if there is none."""
        for generation in self.generations:
            if generation.number == number:
                return generation
        raise LookupError(f"generation {number}")

    def stands_on(self, volume: str) -> bool:
        """Whether the volume of a generation stands on VOLUME, which must not change then."""
        return any(volume in generation.under for generation in self.generations)

    def having(self, generation: Generation) -> Metadata:
        """Return this with GENERATION, which takes the place of the one with its number."""
        others = (g for g in self.generations if g.number != generation.number)
        ordered = sorted([*others, generation], key=lambda each: each.number)
        return msgspec.structs.replace(self, generations=tuple(ordered))

    def without(self, lost: Collection[tuple[str, str]]) -> Metadata:
        """Return this without the generations whose root volume is LOST, by pool and name.

        The current one and one to fall back to stay all the same.
        """
        kept = {self.current, self.fallback}
        return msgspec.structs.replace(
            self,
            generations=tuple(
                each
                for each in self.generations
                if each.number in kept or (each.pool, each.volume) not in lost
            ),
        )
