# SPDX-License-Identifier: GPL-3.0-or-later
"""Where our own Scheme modules are."""

from __future__ import annotations

from pathlib import Path


def scheme_directory() -> Path:
    """Return the directory to put on Guile's load path: a checkout's, or the installed one."""
    package = Path(__file__).resolve().parent.parent
    checkout = package.parent / "guix"
    return checkout if (checkout / "pyguixvm.scm").exists() else package / "scheme"


def scheme_files() -> tuple[Path, ...]:
    """Return all our Scheme files, sorted."""
    directory = scheme_directory()
    return tuple(sorted([directory / "pyguixvm.scm", *directory.glob("pyguixvm/*.scm")]))
