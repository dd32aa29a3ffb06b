# SPDX-License-Identifier: GPL-3.0-or-later
"""Who uses which volume of a hypervisor, and so what may be deleted; pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import msgspec

# A volume by the name of its pool and its own.
Address = tuple[str, str]


class Kept(msgspec.Struct, frozen=True, rename="kebab"):
    """A VOLUME of POOL that may not be deleted; REASON says why, as a clause."""

    pool: str
    volume: str
    reason: str

    def __str__(self) -> str:
        """As a sentence goes on."""
        return f"{self.volume} is kept, since {self.reason}"


class Usage(msgspec.Struct, frozen=True):
    """The files that are in use on a hypervisor, at one moment.

    DOMAINS are the files that each domain names, in its definition or as it runs, and SNAPSHOTS
    those that each of its snapshots does; VOLUMES the files of all volumes in active pools, and
    BACKING what files stand on.
    """

    domains: dict[str, frozenset[str]]
    volumes: dict[Address, str]
    backing: dict[str, str]
    snapshots: dict[tuple[str, str], frozenset[str]] = {}

    def named(self) -> tuple[frozenset[str], ...]:
        """Return the files that domains, or snapshots of them, name."""
        return (*self.domains.values(), *self.snapshots.values())

    def kept(self, wanted: Iterable[Address], leaving: Collection[str] = ()) -> tuple[Kept, ...]:
        """Return those volumes WANTED that something uses which neither goes with them nor LEAVES.

        That is a domain, running or not, or another volume; LEAVING are names of domains.
        """
        going = {self.volumes[each]: each for each in wanted if each in self.volumes}
        reasons = dict(self._reasons(going, leaving))
        return tuple(
            Kept(pool, volume, reasons[file])
            for file, (pool, volume) in going.items()
            if file in reasons
        )

    def _reasons(
        self, going: Collection[str], leaving: Collection[str]
    ) -> Iterator[tuple[str, str]]:
        for (pool, volume), file in self.volumes.items():
            if file not in going:
                for below in self._chain(file)[1:]:
                    yield below, f"volume '{volume}' of pool '{pool}' stands on it"
        for (name, snapshot), files in self.snapshots.items():
            if name not in leaving:
                for used in self._below(files):
                    yield used, f"snapshot '{snapshot}' of domain '{name}' holds it"
        for name, files in self.domains.items():
            if name not in leaving:
                for used in self._below(files):
                    yield used, f"domain '{name}' uses it"

    def _below(self, files: Iterable[str]) -> Iterator[str]:
        for file in files:
            yield from self._chain(file)

    def _chain(self, file: str) -> list[str]:
        """Return FILE and all that it stands on, nearest first."""
        chain = [file]
        while (below := self.backing.get(chain[-1])) is not None and below not in chain:
            chain.append(below)
        return chain
