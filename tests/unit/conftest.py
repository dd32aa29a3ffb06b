# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for all unit tests.  Others load no hypothesis: it takes half a second."""

import os
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings

# How long an example takes, and how long it takes to make some, is up to what else runs.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

_MEMORY = Path("/dev/shm")
# More than the files of all tests take at once (bytes).
_ROOM = 1024**3


def pytest_configure() -> None:
    """Have tests keep their files in memory: what makes file systems flushes all it writes."""
    # Containers have little of it, or let no program be there.
    if "TMPDIR" not in os.environ and _MEMORY.is_dir():
        found = os.statvfs(_MEMORY)
        if found.f_bavail * found.f_frsize > _ROOM and not found.f_flag & os.ST_NOEXEC:
            tempfile.tempdir = str(_MEMORY)
