# SPDX-License-Identifier: GPL-3.0-or-later
"""Of which commits what is declared was made."""

from __future__ import annotations

import msgspec


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
