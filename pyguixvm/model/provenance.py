# SPDX-License-Identifier: GPL-3.0-or-later
"""Of which commits what is declared was made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec

# What an earlier commit is to the one that is used now, in Guix's words; "unknown" is one that
# is not there.
Relation: TypeAlias = Literal["self", "ancestor", "descendant", "unrelated", "unknown"]


class Channel(msgspec.Struct, frozen=True, rename="kebab"):
    """The channel NAME of Guix at COMMIT of BRANCH, in the repository at URL."""

    name: str
    url: str
    branch: str | None
    commit: str


class Checkout(msgspec.Struct, frozen=True, rename="kebab"):
    """The Git repository in DIRECTORY, a clone of the one at URL if that is known, at COMMIT.

    MODIFIED: files that belong to it were not as in that commit.
    """

    directory: str
    url: str | None
    commit: str
    modified: bool


class Provenance(msgspec.Struct, frozen=True, rename="kebab"):
    """The commits that a generation was evaluated with.

    CHANNELS are those of the Guix that did so, as ``guix describe`` tells them: the one
    named "guix" and the user's own; none where that Guix does not know (it was not made by
    ``guix pull``, nor by a package of Guix's).  CONFIGURATION is the repository in which the
    configuration file lies, None where it is in none.
    """

    channels: tuple[Channel, ...] = ()
    configuration: Checkout | None = None


class Earlier(msgspec.Struct, frozen=True):
    """Commits of earlier deploys that differ from those that are used now.

    Those of channels are pairs of a channel's name and its commit.
    """

    channels: frozenset[tuple[str, str]] = frozenset()
    configuration: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.channels or self.configuration)

    def __sub__(self, known: Relations) -> Earlier:
        """Return those that KNOWN does not tell of."""
        return Earlier(
            self.channels - known.channels.keys(), self.configuration - known.configuration.keys()
        )


class Relations(msgspec.Struct, frozen=True):
    """What commits of earlier deploys are to those that are used now.

    A channel that there is no more is not among them.
    """

    channels: Mapping[tuple[str, str], Relation | None] = msgspec.field(default_factory=dict)
    configuration: Mapping[str, Relation | None] = msgspec.field(default_factory=dict)

    def __or__(self, other: Relations) -> Relations:
        """Return this with what OTHER knows."""
        return Relations(
            {**self.channels, **other.channels}, {**self.configuration, **other.configuration}
        )


class Ancestry(msgspec.Struct, frozen=True):
    """What is used NOW, and the RELATIONS of earlier commits to that."""

    now: Provenance = Provenance()
    relations: Relations = Relations()
