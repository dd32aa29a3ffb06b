# SPDX-License-Identifier: GPL-3.0-or-later
"""Where pyguixvm keeps what is to outlive a command, on this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pyguixvm.whose import is_mine, safe


def state_directory(environment: Mapping[str, str]) -> Path:
    """Return the directory, which may not be there yet (the XDG base directory specification).

    One in which another user could put links in our way is not for us.
    """
    given = Path(environment.get("XDG_STATE_HOME", ""))
    state = safe(given) if given.is_absolute() else None
    return (state or _home(environment) / ".local/state") / "pyguixvm"


def _home(environment: Mapping[str, str]) -> Path:
    """Return the home directory of who runs this, whatever su, sudo or cron left in HOME.

    One that is not this user's is not for us, and neither is one that is not there.
    """
    given = Path(environment.get("HOME", ""))
    if given.is_absolute() and is_mine(given):
        ours = safe(given)
        if ours is not None:
            return ours
    import pwd

    try:
        known = Path(pwd.getpwuid(os.geteuid()).pw_dir)
    except KeyError:
        # A user of a container, maybe, whom nobody entered.
        known = Path("/nonexistent")
    return known if known.is_absolute() else Path("/nonexistent")
