# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person gets who wants to talk to a hypervisor by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyguixvm.commands.machines import is_ours
from pyguixvm.commands.session import Session
from pyguixvm.hypervisor.connection import connect
from pyguixvm.hypervisor.observe import observe


@contextmanager
def at_hand(session: Session) -> Iterator[dict[str, Any]]:
    """Yield libvirt's connection, and what was observed of our machines, by name."""
    with connect(session.uri) as connection:
        found = observe(connection).domains.values()
        yield {
            "connection": connection.handle,
            "machines": {domain.name: domain for domain in found if is_ours(domain)},
        }
