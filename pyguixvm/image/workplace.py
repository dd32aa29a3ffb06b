# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories for what is in the making, which nobody's sudden end leaves behind for long."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pyguixvm.whose import safe

_PREFIX = "pyguixvm-work-"
# Between making a directory and locking it; nobody else's is looked at before (seconds).
_GRACE = 10.0


@contextmanager
def workplace(parent: Path | None = None) -> Iterator[Path]:
    """Yield a new directory in PARENT, by default the one for temporary files, for the body.

    What a run that was killed has left there goes, too: a lock tells whose
    owner lives.
    """
    where = _temporary() if parent is None else parent
    _sweep(where)
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=where))
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield directory
        finally:
            os.close(descriptor)
    finally:
        shutil.rmtree(directory)


def _temporary() -> Path:
    """Return the directory for temporary files, unless another user has one of theirs be it."""
    # What is made there is private.
    return safe(Path(tempfile.gettempdir())) or Path("/tmp")  # noqa: S108


def _sweep(parent: Path) -> None:
    """Remove the directories in PARENT that are ours and nobody's work any more."""
    for directory in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another user's, or somebody was faster
            status = directory.lstat()
            if status.st_uid == os.geteuid() and time.time() - status.st_mtime > _GRACE:
                _remove_unless_locked(directory)


def _remove_unless_locked(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(directory)
    finally:
        os.close(descriptor)
