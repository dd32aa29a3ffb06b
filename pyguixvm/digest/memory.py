# SPDX-License-Identifier: GPL-3.0-or-later
"""The digests of large files that were read once, kept for as long as those stay as they are.

What is kept can be lost at any time: the file is read again then.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from pyguixvm.decoding import decode
from pyguixvm.digest.content import Content, content_of
from pyguixvm.digest.file_state import FileState

# How many are kept: each takes one block on disk.
_KEPT = 256
# What changes twice within a tick of a file system's clock looks as if it had once (ns).
_TICK = 2 * 10**9


class _Note(msgspec.Struct, frozen=True):
    """WHAT held CONTENT when it was as its STAMP says."""

    what: str
    stamp: str
    content: Content


@dataclass(frozen=True)
class Digests:
    """What is known of large files, kept in STATE_DIRECTORY, which may not be there yet.

    NOW returns the time (nanoseconds since the epoch).
    """

    state_directory: Path
    now: Callable[[], int] = time.time_ns

    def of(self, path: Path, tell: Callable[[int], None] = lambda _read: None) -> Content:
        """Return what the file PATH holds; it is read if that is not known.

        TELL is as for `content_of`.  Raises RequestRefusedError if the file changes meanwhile.
        """
        now = self.now()
        state = FileState.of(path)
        found = self._known(state)
        if found is None:
            with path.open("rb") as file:
                found = content_of(file, tell)
            state.require_unchanged()
            if state.which and state.stamp and state.changed < now - _TICK:
                self.keep(state.which, state.stamp, found)
        return found

    def seen(self, path: Path) -> Content | None:
        """Return what the file PATH holds, if that is known."""
        return self._known(FileState.of(path))

    def known(self, what: str, stamp: str) -> Content | None:
        """Return what WHAT holds if that was kept, and its STAMP is still the same."""
        with suppress(OSError, msgspec.DecodeError):
            note = decode(self._note(what).read_bytes(), _Note)
            if (note.what, note.stamp) == (what, stamp):
                return note.content
        return None

    def has(self, what: str) -> bool:
        """Whether anything was kept of WHAT, with whatever stamp."""
        return self._note(what).exists()

    def keep(self, what: str, stamp: str, content: Content) -> None:
        """Keep that WHAT holds CONTENT as long as its STAMP stays the same, if it can be kept."""
        with suppress(OSError):
            self._directory.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._directory, delete=False) as file:
                file.write(msgspec.json.encode(_Note(what, stamp, content)))
            Path(file.name).replace(self._note(what))
            self._forget_the_oldest()

    def _known(self, state: FileState) -> Content | None:
        if state.which is None or state.stamp is None:
            return None
        return self.known(state.which, state.stamp)

    def _note(self, what: str) -> Path:
        return self._directory / hashlib.sha256(what.encode()).hexdigest()

    @property
    def _directory(self) -> Path:
        return self.state_directory / "digests"

    def _forget_the_oldest(self) -> None:
        notes = sorted(self._directory.iterdir(), key=lambda note: note.stat().st_mtime)
        for note in notes[:-_KEPT]:
            note.unlink(missing_ok=True)
