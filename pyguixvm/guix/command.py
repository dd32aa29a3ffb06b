# SPDX-License-Identifier: GPL-3.0-or-later
"""The guix command, and where our Scheme modules are."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pyguixvm
from pyguixvm.errors import BuildError

_HINT = (
    "Install GNU Guix, or put the one you have in PATH,"
    " for instance: . ~/.config/guix/current/etc/profile"
)


# The guix to use instead of the one in PATH; 'guix vm' says so.
GUIX_VARIABLE = "PYGUIXVM_GUIX"


def find_guix(environment: Mapping[str, str]) -> Path:
    """Return the file name of the guix that ENVIRONMENT names, or has in its PATH.

    Raises BuildError.
    """
    given = environment.get(GUIX_VARIABLE)
    if given:
        if not os.access(given, os.X_OK):
            raise BuildError(
                f"{GUIX_VARIABLE} is '{given}', which is no program",
                hint="Unset it to use the guix in PATH.",
            )
        return Path(given).absolute()
    found = shutil.which("guix", path=environment.get("PATH", os.defpath))
    if found is None:
        raise BuildError("the command 'guix' is not in PATH", hint=_HINT)
    return Path(found).absolute()


def identity(file: Path) -> str:
    """Return a text that changes when another program, or another FILE, is behind that name."""
    status = file.stat()
    return f"{file} {file.resolve()} {status.st_mtime_ns} {status.st_size}"


def guix_identity(guix: Path) -> str:
    """Return a text that changes when another Guix, or one with other channels, is behind GUIX.

    What ``guix pull`` makes is a profile.  When only another channel changed, the command in
    it is the same.
    """
    names = [guix]
    while names[-1].is_symlink():
        names.append(names[-1].parent / names[-1].readlink())
    profiles = (str(name.parent.parent.resolve()) for name in names)
    return " ".join([identity(guix), *profiles])


def scheme_directory() -> Path:
    """Return the directory to put on Guile's load path for the modules ``(pyguixvm …)``.

    That is ``guix/`` of a checkout, or what was installed with the package.
    """
    package = Path(pyguixvm.__file__).resolve().parent
    installed = package / "scheme"
    return installed if installed.is_dir() else package.parent / "guix"
