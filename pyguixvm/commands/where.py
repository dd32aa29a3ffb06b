# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hypervisor is asked if none is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyguixvm.commands.session import Session


def hypervisor(session: Session) -> str:
    """Return the URI of the hypervisor that SESSION asks.  Raises HypervisorError."""
    from pyguixvm.hypervisor.connection import connect

    with connect(session.uri) as connection:
        return connection.uri
