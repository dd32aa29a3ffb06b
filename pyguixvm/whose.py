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


def is_safe(directory: Path) -> bool:
    """Whether no other user but root can put a thing of theirs in the place of ours in DIRECTORY.

    It need not be there yet.  Who owns it, or what it is in, can; and so can all, where they may
    write without the sticky bit.
    """
    with suppress(OSError):
        there = directory.resolve()
        return all(map(_is_kept, (there, *there.parents)))
    return False


def _is_kept(directory: Path) -> bool:
    try:
        status = directory.stat()
    except FileNotFoundError:
        return True
    mode = status.st_mode
    shared = mode & stat.S_IWOTH and not mode & stat.S_ISVTX
    return status.st_uid in {os.geteuid(), 0, _NOBODY} and not shared
