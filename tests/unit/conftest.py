# SPDX-License-Identifier: GPL-3.0-or-later
"""Where unit tests have their files: in memory, where there is room.

What makes file systems flushes all that it writes, and each test has its own.
"""

import os
import tempfile
from pathlib import Path

_MEMORY = Path("/dev/shm")
# More than all of them have at once (bytes).
_ROOM = 1024**3


def pytest_configure() -> None:
    # Containers have little there, and let nothing that is there run.
    if "TMPDIR" not in os.environ and _MEMORY.is_dir():
        found = os.statvfs(_MEMORY)
        if found.f_bavail * found.f_frsize > _ROOM and not found.f_flag & os.ST_NOEXEC:
            tempfile.tempdir = str(_MEMORY)
