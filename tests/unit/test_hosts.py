# SPDX-License-Identifier: GPL-3.0-or-later
"""Hypervisors are reached again as they were."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from pyguixvm.commands.hosts import Host
from pyguixvm.hypervisor.connection import connect
from pyguixvm.model.hypervisor import Hypervisor
from pyguixvm.model.observation import Observation

WHICH = Hypervisor(None, "", "Test", "/default")


@pytest.mark.parametrize("query", ["", "?ro"])
@pytest.mark.parametrize("verify", [False, True])
def test_who_only_looks_does_so_over_a_connection_of_its_own(query: str, *, verify: bool) -> None:
    with connect(f"test:///default{query}", verify=verify) as connection, ExitStack() as opened:
        uri = connection.uri
        host = Host(connection, WHICH, Observation(uri=uri, local=False, domains={}))
        anew = host.reached_anew(opened)
        assert anew is not None
        assert anew.connection.handle is not connection.handle
        assert anew.connection.read_only == bool(query)
        assert (anew.uri, anew.connection.verify) == (uri, verify)
