# SPDX-License-Identifier: GPL-3.0-or-later
"""All hypervisors and configurations together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from pyguixvm.commands.session import Session
from pyguixvm.exporter.commits import Commits
from pyguixvm.exporter.configurations import Configuration
from pyguixvm.exporter.history import History
from pyguixvm.exporter.journal import Journal
from pyguixvm.exporter.view import Declared, FleetView, HypervisorView
from pyguixvm.exporter.watcher import LOOK_AGAIN, Watcher


class Fleet:
    """Looks at what CONFIGS declare, or at all machines of the session's hypervisor.

    NEWS is called, by any thread, when there is something new.
    """

    def __init__(
        self,
        session: Session,
        configs: Sequence[Path],
        journal: Journal,
        look_again: float = LOOK_AGAIN,
    ) -> None:
        """Look at nothing yet."""
        self._session = session
        self._journal = journal
        self._look_again = look_again
        self._lock = threading.Lock()
        self._watchers: dict[str | None, Watcher] = {}
        self._commits = Commits()
        self.history = History()
        self.news: Callable[[], None] = _nothing
        self._configurations = [
            Configuration(session, config, self._declared_anew, journal.evaluation_failed)
            for config in configs
        ]

    def start(self) -> None:
        """Begin to look."""
        for each in self._configurations:
            each.start()
        if not self._configurations:
            self._watch({self._session.uri})

    def stop(self) -> None:
        """Look no more."""
        self._watch(set())

    def view(self, patience: float = 0.0) -> FleetView:
        """Return what is known; hypervisors have PATIENCE (seconds) for what is used just now."""
        with self._lock:
            watchers = list(self._watchers.values())
        # All have the same time, whoever is asked first: they work side by side.
        deadline = time.monotonic() + patience
        hypervisors = [each.view(max(0.0, deadline - time.monotonic())) for each in watchers]
        return FleetView(
            hypervisors=tuple(sorted(hypervisors, key=lambda each: each.uri)),
            configurations=tuple(each.view for each in self._configurations),
            deploys=self._journal.deploys(),
            evaluation_errors=self._journal.evaluation_errors(),
            committed=self._commits.made(),
        )

    @property
    def dead(self) -> list[str]:
        """What does not go on looking, though it should."""
        with self._lock:
            watchers = list(self._watchers.items())
        return [
            *(f"the look at {uri or 'the hypervisor'}" for uri, each in watchers if each.is_dead),
            *(f"the watch of {each.view.path}" for each in self._configurations if each.is_dead),
        ]

    def _uris(self) -> set[str | None]:
        return {
            machine.hypervisor or self._session.uri
            for each in self._configurations
            if each.deployment is not None
            for machine in each.deployment.machines
        }

    def _declared(self, uri: str | None) -> list[Declared] | None:
        if not self._configurations:
            return None
        found = []
        for each in self._configurations:
            deployment = each.deployment
            if deployment is not None:
                theirs = [
                    machine
                    for machine in deployment.machines
                    if (machine.hypervisor or self._session.uri) == uri
                ]
                found.append(
                    Declared(
                        deployment.config, deployment.name, tuple(theirs), deployment.provenance
                    )
                )
        return found

    def _declared_anew(self) -> None:
        self._watch(self._uris())
        with self._lock:
            watchers = list(self._watchers.values())
        for each in watchers:
            each.happened()
        self.news()

    def _watch(self, uris: set[str | None]) -> None:
        """Look at the hypervisors at URIS from now on, and at no others."""
        with self._lock:
            gone = [self._watchers.pop(uri) for uri in self._watchers.keys() - uris]
            new = {
                uri: Watcher(uri, partial(self._declared, uri), self._seen, self._look_again)
                for uri in uris - self._watchers.keys()
            }
            self._watchers.update(new)
        for each in gone:
            each.stop()
        for each in new.values():
            each.start()

    def _seen(self, view: HypervisorView) -> None:
        self._journal.deploys_seen(view.statuses)
        self._commits.look_up(view.statuses)
        if view.error is None:
            self.history.note(view, time.time())
        self.news()


def _nothing() -> None:
    pass
