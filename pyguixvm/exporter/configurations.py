# SPDX-License-Identifier: GPL-3.0-or-later
"""Configurations are evaluated when they change, and never because somebody asks."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from pathlib import Path

from pyguixvm.commands.evaluate import evaluate
from pyguixvm.commands.session import Session
from pyguixvm.errors import contained
from pyguixvm.events import DependenciesFound, Event
from pyguixvm.exporter.view import ConfigurationView
from pyguixvm.model.declaration import Deployment
from pyguixvm.watch import Changes, watching


class Configuration:
    """Evaluates the file CONFIG whenever it changes, from `start` on.

    CHANGED is called when there is something new, FAILED with its name when it does not
    evaluate.
    """

    def __init__(
        self,
        session: Session,
        config: Path,
        changed: Callable[[], None],
        failed: Callable[[str], None],
    ) -> None:
        """Evaluate nothing yet."""
        self._session = session
        self._config = config.absolute()
        self._changed = changed
        self._failed = failed
        self._lock = threading.Lock()
        self._view = ConfigurationView(str(self._config), error="not evaluated yet")
        self._deployment: Deployment | None = None
        self._files: tuple[str, ...] = ()
        self._thread = threading.Thread(target=self._run, name=f"{config}", daemon=True)

    def start(self) -> None:
        """Begin to watch it."""
        self._thread.start()

    @property
    def view(self) -> ConfigurationView:
        """How its last evaluation ended."""
        with self._lock:
            return self._view

    @property
    def deployment(self) -> Deployment | None:
        """What it declares, by what evaluated last; None if nothing ever did."""
        with self._lock:
            return self._deployment

    @property
    def is_dead(self) -> bool:
        """Whether it has ended by itself, which is a defect."""
        return not self._thread.is_alive()

    def _run(self) -> None:
        with watching(self._config, self._session.load_path) as changes:
            while True:
                self._evaluate(changes)
                self._changed()
                changes.wait()

    def _evaluate(self, changes: Changes) -> None:
        begun = time.time()
        self._files = ()
        session = dataclasses.replace(self._session, emit=self._note)
        try:
            deployment = evaluate(session, self._config, want="images", build=False)
        except Exception as error:  # noqa: BLE001 -- told, and tried again with the next save
            message = contained(error).message
            with self._lock:
                self._view = dataclasses.replace(self._view, error=message)
            self._failed(str(self._config))
        else:
            view = ConfigurationView(
                path=str(self._config),
                machines=tuple(machine.name for machine in deployment.machines),
            )
            with self._lock:
                self._view, self._deployment = view, deployment
        changes.follow(self._files, complete=self.view.error is None, since=begun)

    def _note(self, event: Event) -> None:
        if isinstance(event, DependenciesFound):
            self._files = event.files
