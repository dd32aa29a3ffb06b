# SPDX-License-Identifier: GPL-3.0-or-later
"""What the commits of earlier deploys are to those that are used now."""

from __future__ import annotations

from collections.abc import Iterable

from pyguixvm.commands.session import Session
from pyguixvm.guix.configuration import Configuration
from pyguixvm.guix.history import relations
from pyguixvm.model.observation import Observation
from pyguixvm.model.provenance import Ancestry, Provenance, Relations
from pyguixvm.plan.downgrade import earlier


class Commits:
    """Finds out, once for each commit, what it is to those of NOW."""

    def __init__(self, session: Session, config: Configuration, now: Provenance) -> None:
        """Ask the Guix of SESSION, and the repository of CONFIG; not yet."""
        self._session = session
        self._config = config
        self._now = now
        self._known = Relations()

    def ancestry(self, machines: Iterable[str], observation: Observation) -> Ancestry:
        """Return what is known of what MACHINES in OBSERVATION were deployed with.

        Raises BuildError.
        """
        asked = earlier(machines, observation, self._now) - self._known
        if asked:
            session = self._session
            found = relations(session.exchange(), session.emit, self._config, asked)
            self._known |= found
        return Ancestry(self._now, self._known)
