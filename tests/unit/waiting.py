# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for what happens at its own pace."""

import time
from collections.abc import Callable


def eventually(holds: Callable[[], object], seconds: float = 60, every: float = 0.05) -> None:
    """Wait until HOLDS is true, SECONDS at most; look EVERY so many seconds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"it does not hold after {seconds} s"
        time.sleep(every)
