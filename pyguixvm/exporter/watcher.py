# SPDX-License-Identifier: GPL-3.0-or-later
"""One hypervisor is looked at, by a thread of its own: that it hangs delays nobody.

Whoever wants to know waits a moment for something new, and takes what was seen last.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterable

import msgspec

from pyguixvm.errors import PyguixvmError, contained
from pyguixvm.exporter.guests import Guests
from pyguixvm.exporter.view import Declared, HypervisorView
from pyguixvm.hypervisor.connection import Connection, connect
from pyguixvm.hypervisor.happenings import all_happenings
from pyguixvm.hypervisor.observe import Depth, observe
from pyguixvm.hypervisor.statistics import pool_spaces, statistics
from pyguixvm.hypervisor.uri import without_read_only
from pyguixvm.model.observation import Observation
from pyguixvm.plan.ownership import Owner, undeclared
from pyguixvm.plan.status import MachineStatus, applied_statuses, statuses, unreachable

# Seconds: how often everything is looked at, how soon after something happened, how long
# libvirt may take for a request, and how soon one that went away is looked for again.
LOOK_AGAIN = 15.0
_SETTLE = 0.5
_PATIENCE = 5.0
_RECONNECT = 5.0
_DEPTH = Depth.HOLDERS | Depth.ADDRESSES


class Watcher:
    """Looks at the hypervisor at URI from `start` to `stop`.

    DECLARED is asked for what is declared there, None for what was applied; SEEN is told each
    new view.
    """

    def __init__(
        self,
        uri: str | None,
        declared: Callable[[], Iterable[Declared] | None],
        seen: Callable[[HypervisorView], None],
        look_again: float = LOOK_AGAIN,
    ) -> None:
        """Look at nothing yet."""
        self._uri = uri
        self._declared = declared
        self._seen = seen
        self._look_again = look_again
        self._turn = threading.Condition()
        self._view = HypervisorView(without_read_only(uri or "")[0] or "default")
        self._asked = self._answered = 0
        self._busy_since: float | None = None
        self._happened = True
        self._stopped = False
        self._guests = Guests(uri, self.happened)
        self._thread = threading.Thread(target=self._run, name=f"look at {uri}", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()
        self._guests.start()

    def stop(self) -> None:
        """Look no more; what is under way ends by itself."""
        self._guests.stop()
        with self._turn:
            self._stopped = True
            self._turn.notify_all()

    def happened(self) -> None:
        """Have everything looked at again soon."""
        with self._turn:
            self._happened = True
            self._turn.notify_all()

    def view(self, patience: float = 0.0) -> HypervisorView:
        """Return what was seen last; wait up to PATIENCE (seconds) for what is used just now.

        A hypervisor that lets others wait already is waited for no longer.
        """
        with self._turn:
            if patience <= 0 or self._view.error is not None:
                return self._view
            if self._busy_since is None or time.monotonic() - self._busy_since < patience:
                self._asked += 1
                wanted = self._asked
                self._turn.notify_all()
                if self._turn.wait_for(lambda: self._answered >= wanted, patience):
                    return self._view
            silent = f"it says nothing for {patience:g} s or more"
            return dataclasses.replace(self._view, error=self._view.error or silent)

    @property
    def is_dead(self) -> bool:
        """Whether it has ended by itself, which is a defect."""
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopped:
            try:
                # Not libvirt's own patience: its thread may hang as long as it likes.
                with (
                    connect(self._uri, _PATIENCE, _PATIENCE, once=True) as connection,
                    all_happenings(connection, self.happened),
                ):
                    self._follow(connection)
            except Exception as error:  # noqa: BLE001 -- whatever it is, it is looked for again
                self._lost(contained(error))

    def _follow(self, connection: Connection) -> None:
        """Look at the hypervisor of CONNECTION until that fails, or nobody wants to know."""
        due = 0.0
        while self._waited(due):
            with self._turn:
                asked, whole = self._asked, self._happened or time.monotonic() >= due
                self._happened = False
                self._busy_since = time.monotonic()
            view = self._looked(connection) if whole else self._measured(connection)
            with self._turn:
                self._view, self._answered, self._busy_since = view, asked, None
                self._turn.notify_all()
            if whole:
                due = time.monotonic() + self._look_again
                self._seen(view)

    def _waited(self, due: float) -> bool:
        """Wait until there is something to do; whether anybody wants it done."""
        with self._turn:
            self._turn.wait_for(
                lambda: self._stopped or self._happened or self._asked > self._answered,
                max(0.0, due - time.monotonic()),
            )
            # What comes in one go is looked at once, but nobody who asks waits for that.
            if self._happened and due:
                self._turn.wait_for(lambda: self._stopped or self._asked > self._answered, _SETTLE)
            return not self._stopped

    def _looked(self, connection: Connection) -> HypervisorView:
        begun = time.monotonic()
        observation = observe(connection, _DEPTH)
        used = statistics(connection)
        said = self._guests.said()
        observation = msgspec.structs.replace(
            observation,
            spaces=pool_spaces(connection),
            domains={
                name: msgspec.structs.replace(
                    each,
                    statistics=used.get(each.uuid),
                    inside=said.get(each.uuid) if each.state == "running" else None,
                )
                for name, each in observation.domains.items()
            },
        )
        return HypervisorView(
            uri=connection.uri,
            error=None,
            looked=time.time(),
            seconds=time.monotonic() - begun,
            observation=observation,
            statuses=_statuses(observation, self._declared()),
            statistics=used,
            spaces=observation.spaces,
        )

    def _measured(self, connection: Connection) -> HypervisorView:
        return dataclasses.replace(
            self._view,
            error=None,
            statistics=statistics(connection),
            spaces=pool_spaces(connection),
        )

    def _lost(self, error: PyguixvmError) -> None:
        known = self._view.statuses
        if not self._view.looked:
            # What is declared there is known, if nothing else is.
            declared = self._declared() or ()
            machines = [machine for each in declared for machine in each.machines]
            known = unreachable(machines, error, self._view.uri)
        with self._turn:
            self._view = dataclasses.replace(self._view, error=error.message, statuses=known)
            self._busy_since, self._happened = None, True
            self._answered = self._asked
            self._turn.notify_all()
        self._seen(self._view)
        with self._turn:
            self._turn.wait_for(lambda: self._stopped, _RECONNECT)


def _statuses(
    observation: Observation, declared: Iterable[Declared] | None
) -> tuple[MachineStatus, ...]:
    """Return how what DECLARED says, or what was applied, compares with OBSERVATION."""
    if declared is None:
        return applied_statuses(observation)
    found: list[MachineStatus] = []
    for each in declared:
        owner = Owner(name=each.name, complete=True)
        gone = undeclared(each.machines, observation, owner)
        found.extend(statuses(each.machines, observation, gone, provenance=each.provenance))
    return tuple(found)
