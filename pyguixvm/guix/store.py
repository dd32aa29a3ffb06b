# SPDX-License-Identifier: GPL-3.0-or-later
"""Having Guix build, keep, and tell of store items.

Guix does that itself, in the evaluator, where it is loaded already: the
command ``guix build`` takes most of a second to load it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pyguixvm.events import Emit
from pyguixvm.guix.building import Answer, work
from pyguixvm.guix.request import Exchange
from pyguixvm.guix.roots import leads_to
from pyguixvm.model.store_item import StoreItem, hash_part

# Builds take what they take: a month, which also ends whoever was forgotten.
_BUILD_SECONDS = 30 * 24 * 3600.0
_SECONDS = 600.0


class _Answer(Answer):
    realized: bool = False
    items: tuple[StoreItem, ...] = ()


@dataclass(frozen=True)
class Store:
    """The store of this machine, through the Guix that EXCHANGE reaches.

    EMIT takes what Guix writes, as BuildOutput.
    """

    exchange: Callable[[], Exchange]
    emit: Emit

    def realize(self, outputs: Mapping[str, str], roots: Mapping[Path, str]) -> bool:
        """Build the derivations that OUTPUTS maps to what they build; then register ROOTS.

        Each of ROOTS, absolute file names, protects its store item from Guix's
        garbage collector from then on: a symbolic link of ours where the collector
        looks, or else which the daemon knows (an indirect root, see "Invoking guix gc" in
        Guix's manual).  Asks
        nobody, and returns false, if all is there already.  GUIX_BUILD_OPTIONS is
        honoured, by Guix.  Raises BuildError.
        """
        missing = [derivation for derivation, output in outputs.items() if not is_built(output)]
        unrooted = {str(root): item for root, item in roots.items() if not _rooted(root, item)}
        if not missing and not unrooted:
            return False
        self._ask("realize", {"derivations": missing, "roots": unrooted}, _BUILD_SECONDS)
        return True

    def items_beyond(self, present: Iterable[str], wanted: Sequence[str]) -> tuple[StoreItem, ...]:
        """Return the store items that WANTED refer to in the end and that are not PRESENT.

        PRESENT holds with each item those that it refers to.  Raises BuildError.
        """
        hashes = " ".join(hash_part(PurePosixPath(item).name) for item in present)
        request = {"present": hashes, "wanted": list(wanted)}
        return self._ask("items", request, _SECONDS).items

    def _ask(self, command: str, request: Mapping[str, object], seconds: float) -> _Answer:
        return work(self.exchange(), self.emit, command, request, _Answer, seconds)


def is_built(output: str) -> bool:
    """Return whether OUTPUT is complete: while the daemon builds it, it is locked."""
    return Path(output).exists() and not Path(f"{output}.lock").exists()


def _rooted(root: Path, output: str) -> bool:
    return leads_to(root, output) and is_built(output)
