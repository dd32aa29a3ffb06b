# SPDX-License-Identifier: GPL-3.0-or-later
"""The status of machines whenever it changes, as libvirt's events tell, until somebody ends it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyguixvm.commands.session import Session
from pyguixvm.commands.status import Asked, status
from pyguixvm.errors import HypervisorError
from pyguixvm.interruption import LOOK_SECONDS

if TYPE_CHECKING:
    from pyguixvm.plan.status import MachineStatus

# What libvirt tells by no event, a guest that is changed by hand for example, is seen at latest
# after so long (seconds), and what comes in one go is looked at once.
_LOOK_AGAIN = 15.0
_TOGETHER = 0.1


@dataclass(frozen=True)
class Look:
    """What was seen: FOUND, or the ERROR why nothing was; CHANGED are machines, by what was.

    A machine that was not there before was None.
    """

    found: tuple[MachineStatus, ...]
    changed: Mapping[str, MachineStatus | None]
    error: HypervisorError | None = None


def looks(
    session: Session, asked: Asked, wait: Callable[[threading.Event, float], None] | None = None
) -> Iterator[Look]:
    """Yield the status of what is ASKED about, now and whenever it changes.

    A hypervisor that goes away is told once, and looked for again.
    """
    known: dict[str, MachineStatus] | None = None
    told_error: str | None = None
    happened = threading.Event()
    while True:
        with ExitStack() as opened:
            try:
                _listen(session, asked, opened, happened)
                # Where nothing happens for long, the connection itself may be gone: a new one.
                happened.set()
                while happened.is_set():
                    happened.clear()
                    found = status(session, asked)
                    now = {each.name: each for each in found}
                    changed = _changed(known, now)
                    if known is None or changed or told_error:
                        yield Look(found, changed)
                    known, told_error = now, None
                    (wait or _wait)(happened, _LOOK_AGAIN)
                continue
            except HypervisorError as error:
                new, told_error = error.message != told_error, error.message
                if new:
                    yield Look((), {}, error)
            happened.clear()
            (wait or _wait)(happened, _LOOK_AGAIN)


def essence(status: MachineStatus) -> object:
    """Return of STATUS what is news when it changes: not what a guest uses, nor its clock."""
    return (
        status.status,
        status.state,
        status.reason,
        status.generation,
        status.differences,
        status.foreign,
        status.detail,
        status.addresses,
        status.guest,
    )


def _changed(
    known: Mapping[str, MachineStatus] | None, now: Mapping[str, MachineStatus]
) -> dict[str, MachineStatus | None]:
    if known is None:
        return {}
    changed: dict[str, MachineStatus | None] = {}
    for name in {**known, **now}:
        before, after = known.get(name), now.get(name)
        if before is None or after is None or essence(before) != essence(after):
            changed[name] = before
    return changed


def _listen(session: Session, asked: Asked, opened: ExitStack, happened: threading.Event) -> None:
    """Have HAPPENED set by whatever happens at the hypervisors that are ASKED, until OPENED closes.

    One that cannot be reached is looked at again without being told: the look says why.
    """
    from pyguixvm.hypervisor.connection import connect
    from pyguixvm.hypervisor.happenings import all_happenings

    for uri in asked.uris(session):
        with suppress(HypervisorError):
            connection = opened.enter_context(connect(uri))
            opened.enter_context(all_happenings(connection, happened.set))


def _wait(happened: threading.Event, seconds: float) -> None:
    """Wait until something HAPPENED, or for SECONDS; a signal is heard meanwhile."""
    deadline = time.monotonic() + seconds
    while not happened.wait(LOOK_SECONDS):
        if time.monotonic() >= deadline:
            return
    time.sleep(_TOGETHER)
