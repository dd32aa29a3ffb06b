# SPDX-License-Identifier: GPL-3.0-or-later
"""The ``guix`` command: where it is, and what tells one from another."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from pyguixvm.errors import BuildError


def find_guix(environment: Mapping[str, str]) -> Path:
    """Return the ``guix`` that PATH in ENVIRONMENT leads to.

    Raises BuildError if there is none.
    """
    path = environment.get("PATH", "")
    found = shutil.which("guix", path=path)
    if found is None:
        raise BuildError(
            f"there is no 'guix' in PATH ({path})",
            hint="Install GNU Guix, or add the directory of its command to PATH.",
        )
    return Path(found)


def identity(file: Path) -> tuple[str, int, int]:
    """Return what changes when FILE, or what it is a link to, is replaced or rewritten."""
    real = file.resolve()
    status = real.stat()
    return str(real), status.st_mtime_ns, status.st_size
