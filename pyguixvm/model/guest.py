# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest says of itself, decoded and bounded: it may lie, but only about itself."""

from __future__ import annotations

from typing import Literal

import msgspec


class FileSystem(msgspec.Struct, frozen=True, rename="kebab"):
    """A file system that is mounted at TARGET, of TOTAL bytes, of which USED are."""

    target: str
    total: int
    used: int


class Inside(msgspec.Struct, frozen=True, rename="kebab"):
    """What a guest says; None is what it does not say.

    BOOTED and RUNNING are systems, store items: the one that it booted, and the one that it
    was switched to since.  RESTART: it runs another kernel or initrd than RUNNING has.  UPTIME
    is how long it runs, CLOCK how far its clock is ahead (both seconds), FAILED the services
    that failed.  BY is what said so.
    """

    booted: str | None = None
    running: str | None = None
    restart: bool | None = None
    uptime: float | None = None
    clock: float | None = None
    failed: tuple[str, ...] | None = None
    file_systems: tuple[FileSystem, ...] | None = None
    by: Literal["agent", "ssh"] = "agent"
