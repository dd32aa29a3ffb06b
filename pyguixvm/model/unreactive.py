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
        raise RequestRefusedError(
            f"machine '{name}' is paused{why} and cannot react",
            hint=f"{_resume(name, reason)}, or power it off with 'pyguixvm destroy {name}'",
        )
    if state == "crashed":
        raise RequestRefusedError(
            f"machine '{name}' crashed{why} and is kept as it was then, to be looked at",
            hint=f"if that is of use, 'virsh dump --memory-only {name} FILE' saves what it held; "
            f"then power it off with 'pyguixvm destroy {name}'",
        )


def stays(name: str, state: State, reason: str | None) -> str | None:
    """Return that the guest of domain NAME, in STATE for REASON, stays so, and what wakes it.

    None if it is not one that only waits to go on.
    """
    why = f" {reason}" if reason else ""
    if state == "paused":
        return f"it stays paused{why}: {_resume(name, reason)}"
    if state == "suspended":
        return f"it stays suspended{why}: wake it with '{awakening(name, state)}'"
    return None


def awakening(name: str, state: State) -> str:
    """Return the command that has the guest of domain NAME run, which does not, in STATE."""
    match state:
        case "paused":
            return f"virsh resume {name}"
        case "suspended":
            return f"virsh dompmwakeup {name}"
        case _:
            return f"pyguixvm start {name}"


def _resume(name: str, reason: str | None) -> str:
    """Return what has the guest of domain NAME, which is paused for REASON, go on."""
    resume = f"let it go on with '{awakening(name, 'paused')}'"
    if reason == IO_ERROR:
        return f"see that its disks can be written to (is there room in their pool?), and {resume}"
    return resume
