# SPDX-License-Identifier: GPL-3.0-or-later
"""When commits were made that machines are of, where their repositories are at hand."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from contextlib import suppress

from pyguixvm import process
from pyguixvm.errors import PyguixvmError
from pyguixvm.model.provenance import Checkout
from pyguixvm.plan.status import MachineStatus

_GIT_SECONDS = 10.0
# A domain's metadata may say anything; this is what Git calls a commit.
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class Commits:
    """Knows when commits were made that were looked up; safe between threads."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._lock = threading.Lock()
        self._made: dict[str, float] = {}

    def look_up(self, statuses: Iterable[MachineStatus]) -> None:
        """Have Git say when the commits that machines of STATUSES are of were made.

        A repository that is not at hand, or that Git does not trust, tells nothing.
        """
        for checkout in _checkouts(statuses):
            with self._lock:
                known = checkout.commit in self._made
            if not known and _COMMIT.fullmatch(checkout.commit):
                made = _made(checkout)
                if made is not None:
                    with self._lock:
                        self._made[checkout.commit] = made

    def made(self) -> dict[str, float]:
        """Return when (seconds since the epoch) commits were made, as far as that is known."""
        with self._lock:
            return dict(self._made)


def _checkouts(statuses: Iterable[MachineStatus]) -> set[Checkout]:
    return {
        origin.provenance.configuration
        for status in statuses
        for origin in (status.origins.declared, status.origins.deployed)
        if origin is not None
        and origin.provenance is not None
        and origin.provenance.configuration is not None
    }


def _made(checkout: Checkout) -> float | None:
    with suppress(PyguixvmError, ValueError, OSError):
        command = ["git", "-C", checkout.directory, "show", "-s", "--format=%ct", checkout.commit]
        return float(process.run(command, timeout=_GIT_SECONDS).text)
    return None
