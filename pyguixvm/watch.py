# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for somebody to save a Scheme file."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

# Editors write by renaming, "save all" writes several files, git checks out many: what
# follows another change within so many seconds is one change with it.
QUIET_SECONDS = 0.08

# Reading a file is no change; watchdog reports that, too.  "attrib" is touch, which
# is how people ask for another try, and "closed" the end of writing.
_CHANGES = frozenset({"created", "modified", "moved", "deleted", "attrib", "closed"})


class Changes(FileSystemEventHandler):
    """The changes to watched files since they were last asked for."""

    def __init__(self) -> None:
        """Begin without any."""
        self._changed = threading.Event()
        self._last = 0.0

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Take note of EVENT, which watchdog reports from a thread of its own."""
        names = [str(event.src_path), str(event.dest_path)]
        if (
            event.event_type in _CHANGES
            and not event.is_directory
            and any(is_source(Path(name).name) for name in names)
        ):
            self._last = time.monotonic()
            self._changed.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait at most TIMEOUT seconds for a change, and until no other follows at once.

        Whether there was one; it counts as seen then.
        """
        if not self._changed.wait(timeout):
            return False
        while (quiet := time.monotonic() - self._last) < QUIET_SECONDS:
            time.sleep(QUIET_SECONDS - quiet)
        self._changed.clear()
        return True


@contextmanager
def watching(config: Path, load_path: Iterable[Path] = ()) -> Iterator[Changes]:
    """Watch the Scheme files beside CONFIG, and those anywhere below LOAD_PATH."""
    changes = Changes()
    observer = Observer()
    observer.schedule(changes, str(config.absolute().parent), recursive=False)
    for directory in load_path:
        observer.schedule(changes, str(directory.absolute()), recursive=True)
    observer.start()
    try:
        yield changes
    finally:
        observer.stop()
        observer.join()


def is_source(name: str) -> bool:
    """Whether a file called NAME holds Scheme, and is not an editor's lock or backup.

    Other files do not count: among them may be the log that we write ourselves.
    """
    return name.endswith(".scm") and not name.startswith((".", "#"))
