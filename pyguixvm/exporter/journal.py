# SPDX-License-Identifier: GPL-3.0-or-later
"""What is counted, in a file: a counter that began anew with the service would tell nothing."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from pyguixvm.decoding import decode
from pyguixvm.plan.status import Ended, MachineStatus

# How a deploy can have ended; one whose end was not seen may go on.
RESULTS: tuple[Ended, ...] = ("ready", "rolled back", "failed")
# What is known of a machine's deploys goes back so far.
_DEPLOYS_KEPT = 64


class _Counted(msgspec.Struct, rename="kebab"):
    """DEPLOYS counts by machine, then by how they ended; SEEN are those that were counted."""

    deploys: dict[str, dict[str, int]] = {}
    evaluation_errors: dict[str, int] = {}
    seen: dict[str, list[str]] = {}


class Journal:
    """Counts deploys and failed evaluations, and keeps that in FILE; safe between threads."""

    def __init__(self, file: Path | None) -> None:
        """Go on from what FILE has, if anything; without FILE, count for this once."""
        self._file = file
        self._lock = threading.Lock()
        self._counted = _Counted()
        if file is not None:
            with suppress(OSError, msgspec.MsgspecError):
                self._counted = decode(file.read_bytes(), _Counted)

    def deploys_seen(self, statuses: Iterable[MachineStatus]) -> None:
        """Count the last deploys of STATUSES, each once; one that goes on is no deploy yet."""
        with self._lock:
            news = False
            for status in statuses:
                deploy = status.deploy
                if status.uuid is None or deploy is None or deploy.ended not in RESULTS:
                    continue
                key = f"{deploy.generation} {deploy.date} {deploy.ended}"
                seen = self._counted.seen.setdefault(status.uuid, [])
                if key not in seen:
                    seen.append(key)
                    del seen[:-_DEPLOYS_KEPT]
                    ended = self._counted.deploys.setdefault(status.name, {})
                    ended[deploy.ended] = ended.get(deploy.ended, 0) + 1
                    news = True
            if news:
                self._write()

    def evaluation_failed(self, config: str) -> None:
        """Count that CONFIG did not evaluate."""
        with self._lock:
            errors = self._counted.evaluation_errors
            errors[config] = errors.get(config, 0) + 1
            self._write()

    def deploys(self) -> dict[tuple[str, str], int]:
        """Return how many deploys ended how, by machine and that."""
        with self._lock:
            return {
                (machine, ended): count
                for machine, counts in self._counted.deploys.items()
                for ended, count in counts.items()
            }

    def evaluation_errors(self) -> dict[str, int]:
        """Return how many evaluations failed, by configuration."""
        with self._lock:
            return dict(self._counted.evaluation_errors)

    def _write(self) -> None:
        """Keep what was counted; where that cannot be, it is counted all the same."""
        if self._file is None:
            return
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            new = self._file.with_name(f"{self._file.name}.new")
            with new.open("wb") as file:
                file.write(msgspec.json.encode(self._counted))
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._file)
