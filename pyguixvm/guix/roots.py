# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the links are that keep Guix's garbage collector from what generations stand on."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

# What a generation with increments is made of, besides the image that it stands on.
SYSTEM_SUFFIX = "-system"


def root_path(state_directory: Path, uri: str, machine: str, generation: int) -> Path:
    """Return the GC root of the image of GENERATION of MACHINE on the hypervisor at URI."""
    return state_directory / "gc-roots" / quote(uri, safe="") / machine / str(generation)


def system_root(root: Path) -> Path:
    """Return the GC root of the operating system of the generation whose image has ROOT."""
    return root.with_name(root.name + SYSTEM_SUFFIX)


def remove_root(root: Path) -> None:
    """Remove ROOT and the one of its system, if they are there, and directories empty then."""
    root.unlink(missing_ok=True)
    system_root(root).unlink(missing_ok=True)
    # As deep as root_path goes: the machine, the hypervisor, gc-roots.
    for directory in list(root.parents)[:3]:
        try:
            directory.rmdir()
        except OSError:
            return
