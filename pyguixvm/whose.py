# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose a directory is: what su and sudo leave of another user's environment is not for us."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

# Who owns what is another namespace's, as root's files are in some containers.
_NOBODY = 65534


def is_mine(directory: Path) -> bool:
    """Whether DIRECTORY is one of this user's."""
    with suppress(OSError):
        status = directory.stat()
        return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    return False


def safe(directory: Path) -> Path | None:
    """Return DIRECTORY without links, or None if others can exchange what we have in it.

    Root can, and whom its owner lets: a group.  Who owns what it is in could, and a link on the
    way to it: so that is not gone again.  It need not be there yet, if nobody else can make it.
    """
    try:
        there = directory.resolve()
        ways = [there, *there.parents]
        while not ways[0].exists():
            ways = ways[1:]
        made = ways[0] != there
        return there if _is_kept(ways[0], new=made) and all(map(_is_kept, ways[1:])) else None
    except OSError:
        return None


def _is_kept(directory: Path, *, new: bool = False) -> bool:
    """Whether what is in DIRECTORY stays what it is; or what is to be NEW there, what we make."""
    status = directory.stat()
    mode = status.st_mode
    shared = mode & stat.S_IWOTH and (new or not mode & stat.S_ISVTX)
    return status.st_uid in {os.geteuid(), 0, _NOBODY} and not shared
