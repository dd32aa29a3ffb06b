# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Guix System writes on its console when it boots: which one it is; pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Written by Guix itself: its initial RAM disk, (gnu build linux-boot), names what it goes on with,
# and each system, (gnu build activation), itself.  Both go to the console, whatever the kernel's
# log level is.
_MESSAGES = re.compile(
    r"(?:loading '(?P<loaded>[^']+)/boot'\.\.\.|making '(?P<made>[^']+)' the current system\.\.\.)"
)
_SYSTEM = re.compile(r"/gnu/store/[0-9a-z]{32}-[A-Za-z0-9+._?=-]{1,200}")


def booted_system(lines: Iterable[str]) -> str | None:
    """Return the system, a store item, that booted last by LINES, those of a console.

    None if they name none: not every guest writes there.

    >>> booted_system([f"making '/gnu/store/{32 * 'a'}-system' the current system..."])
    '/gnu/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-system'
    """
    booted = None
    for line in lines:
        for found in _MESSAGES.finditer(line):
            booted = system_named(found["loaded"] or found["made"]) or booted
    return booted


def system_named(text: str) -> str | None:
    """Return TEXT if it can be a system, a store item, else None."""
    return text if _SYSTEM.fullmatch(text) else None
