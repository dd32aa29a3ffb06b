# SPDX-License-Identifier: GPL-3.0-or-later
"""The keys that watch heeds on a terminal, one by one and unseen."""

from __future__ import annotations

import os
import select
import termios
import threading
from collections.abc import Callable
from contextlib import suppress

# While nobody types, this often (seconds) whether it is over.
_LOOK_SECONDS = 0.3


class Keys:
    """Reads the terminal FILE until it is closed; Control-C stays what it is."""

    def __init__(self, file: int, pressed: Callable[[str], None]) -> None:
        """Hand each key to PRESSED, in a thread of its own."""
        self._file = file
        self._pressed = pressed
        self._over = threading.Event()
        self._before = termios.tcgetattr(file)
        mode = termios.tcgetattr(file)
        mode[3] &= ~(termios.ICANON | termios.ECHO)
        termios.tcsetattr(file, termios.TCSADRAIN, mode)
        self._reading = threading.Thread(target=self._read, name="keys", daemon=True)
        self._reading.start()

    def close(self) -> None:
        """Have the terminal as it was."""
        self._over.set()
        if threading.current_thread() is not self._reading:
            self._reading.join()
        # One that went away needs no restoring.
        with suppress(termios.error):
            termios.tcsetattr(self._file, termios.TCSADRAIN, self._before)

    def _read(self) -> None:
        with suppress(OSError):
            while not self._over.is_set():
                if select.select([self._file], [], [], _LOOK_SECONDS)[0]:
                    data = os.read(self._file, 64)
                    if not data:
                        return
                    # What begins with an escape is a key that has no letter.
                    if not data.startswith(b"\x1b"):
                        for char in data.decode(errors="ignore"):
                            self._pressed(char)
