# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests that cannot react to anything, although they are there: why, and what helps."""

from __future__ import annotations

from pyguixvm.errors import RequestRefusedError
from pyguixvm.model.observation import IO_ERROR, State


def require_reactive(name: str, state: State, reason: str | None) -> None:
    """Raise RequestRefusedError if the guest of domain NAME, in STATE for REASON, cannot react.

    Neither button nor agent stops it.  What it has not written to its disks is worth a
    question before it is powered off.
    """
    why = f" {reason}" if reason else ""
    if state == "paused":
        resume = f"'virsh resume {name}' first"
        if reason == IO_ERROR:
            resume = (
                "see that its disks can be written to (is there room in their pool?), and let it "
                f"go on with 'virsh resume {name}'"
            )
        raise RequestRefusedError(
            f"machine '{name}' is paused{why} and cannot react",
            hint=f"{resume}, or power it off with 'pyguixvm destroy {name}'",
        )
    if state == "crashed":
        raise RequestRefusedError(
            f"machine '{name}' crashed{why} and is kept as it was then, to be looked at",
            hint=f"if that is of use, 'virsh dump --memory-only {name} FILE' saves what it held; "
            f"then power it off with 'pyguixvm destroy {name}'",
        )
