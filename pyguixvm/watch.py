# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for somebody to save what a configuration depends on."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, ObservedWatch

from pyguixvm.errors import RequestRefusedError

# Editors write by renaming, "save all" writes several files, git checks out many: what
# follows another change within so many seconds is one change with it.
QUIET_SECONDS = 0.08

# Reading a file is no change; watchdog reports that, too.  "attrib" is touch, which
# is how people ask for another try, and "closed" the end of writing.
_CHANGES = frozenset({"created", "modified", "moved", "deleted", "attrib", "closed"})
# A directory is modified by all that happens in it.
_CHANGES_OF_DIRECTORIES = frozenset({"created", "moved", "deleted"})

# How inotify refuses to watch (inotify_init(2), inotify_add_watch(2)).
_LIMITS = {
    errno.EMFILE: "fs.inotify.max_user_instances",
    errno.ENOSPC: "fs.inotify.max_user_watches",
}


class Changes(FileSystemEventHandler):
    """The changes to watched files since they were last asked for."""

    def __init__(self, observer: BaseObserver, config: Path, load_path: Iterable[Path]) -> None:
        """Watch for CONFIG, and until more is known, for any Scheme file that it may load."""
        self._observer = observer
        self._config = config.absolute()
        self._load_path = tuple(directory.absolute() for directory in load_path)
        # Called, in a thread of its own, for the first change after each wait.
        self.saved: Callable[[], None] = _do_nothing
        self._changed = threading.Event()
        self._last = 0.0
        self._files: frozenset[str] = frozenset()
        self._watches: dict[tuple[str, bool], ObservedWatch] = {}
        self._complete = False
        self._schedule()

    @property
    def last(self) -> float:
        """When the last change was seen, on the monotonic clock; 0 if there was none."""
        return self._last

    def follow(self, files: Iterable[str], *, complete: bool, since: float) -> None:
        """Watch FILES from now on, by their absolute names; some may not exist.

        Unless they are COMPLETE, Scheme files beside the configuration and on the
        load path count, too.  What has changed SINCE then (seconds since the
        epoch), before it was watched, counts as a change.
        """
        names = {str(self._config), str(self._config.resolve()), *files}
        if not complete:
            names |= self._files
        unwatched = names - self._files
        self._files, self._complete = frozenset(names), complete
        self._schedule()
        if any(_modified(name) > since for name in unwatched):
            self._take_note()

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Take note of EVENT, which watchdog reports from a thread of its own."""
        names = [os.fsdecode(event.src_path), os.fsdecode(event.dest_path)]
        counted = _CHANGES_OF_DIRECTORIES if event.is_directory else _CHANGES
        if event.event_type in counted and any(
            self._matters(name, directory=event.is_directory) for name in names if name
        ):
            self._take_note()

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

    def ask(self) -> None:
        """Count as if something had been saved."""
        self._take_note()

    def _take_note(self) -> None:
        self._last = time.monotonic()
        if not self._changed.is_set():
            self._changed.set()
            self.saved()

    def _matters(self, name: str, *, directory: bool) -> bool:
        if name in self._files or any(name.startswith(f"{file}/") for file in self._files):
            return True
        # A directory that a missing file was looked for in has come, or has gone.
        if directory:
            return any(file.startswith(f"{name}/") for file in self._files)
        return not self._complete and is_source(Path(name).name)

    def _schedule(self) -> None:
        """Have the observer watch what matters, each directory once."""
        wanted = {(str(self._config.parent), False)}
        if not self._complete:
            wanted |= {(str(directory), True) for directory in self._load_path}
        for name in self._files:
            path = Path(name)
            wanted.add((name, True) if path.is_dir() else (str(_existing(path.parent)), False))
        recursive = {directory for directory, whole in wanted if whole}
        wanted -= {(directory, False) for directory in recursive}
        for key in self._watches.keys() - wanted:
            self._observer.unschedule(self._watches.pop(key))
        for directory, whole in wanted - self._watches.keys():
            with _within_limits():
                self._watches[directory, whole] = self._observer.schedule(
                    self, directory, recursive=whole
                )


@contextmanager
def watching(config: Path, load_path: Iterable[Path] = ()) -> Iterator[Changes]:
    """Watch CONFIG and the Scheme files beside it and below LOAD_PATH, see `Changes`.

    Raises RequestRefusedError where the kernel lets nobody watch any more.
    """
    with _within_limits():
        observer = Observer()
        changes = Changes(observer, config, load_path)
        observer.start()
    try:
        yield changes
    finally:
        observer.stop()
        observer.join()


@contextmanager
def _within_limits() -> Iterator[None]:
    """Say which limit of the kernel's is reached, if the body is refused for one."""
    try:
        yield
    except OSError as error:
        limit = _LIMITS.get(error.errno or 0)
        if limit is None:
            raise
        raise RequestRefusedError(
            f"files cannot be watched: programs of this account watch as many as {limit} allows",
            hint=f"End some of them (editors, other 'watch'es), or allow more: sysctl -w {limit}=…",
        ) from error


def is_source(name: str) -> bool:
    """Whether a file called NAME holds Scheme, and is not an editor's lock or backup.

    Other files do not count: among them may be the log that we write ourselves.
    """
    return name.endswith(".scm") and not name.startswith((".", "#"))


def _do_nothing() -> None:
    pass


def _existing(directory: Path) -> Path:
    """Return DIRECTORY, or the nearest one above it that exists."""
    while not directory.is_dir():
        directory = directory.parent
    return directory


def _modified(name: str) -> float:
    try:
        return Path(name).stat().st_mtime
    except OSError:
        return 0.0
