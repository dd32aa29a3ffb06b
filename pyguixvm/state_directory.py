# SPDX-License-Identifier: GPL-3.0-or-later
"""Where pyguixvm keeps what is to outlive a command, on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def state_directory(environment: Mapping[str, str]) -> Path:
    """Return the directory, which may not be there yet (the XDG base directory specification)."""
    home = Path(environment.get("HOME", "/"))
    return Path(environment.get("XDG_STATE_HOME") or home / ".local/state") / "pyguixvm"
