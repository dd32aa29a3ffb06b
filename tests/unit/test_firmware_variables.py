# SPDX-License-Identifier: GPL-3.0-or-later
"""Firmware's variables are read by a pool that others make and end, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import libvirt
import pytest
from variables_host import DIRECTORY, FILE, HELD, Host, Pool, connection_to, error

from pyguixvm.errors import HypervisorError
from pyguixvm.hypervisor import firmware_variables


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def connection(host: Host) -> Any:
    return connection_to(host)


def once(change: Callable[[Pool], None]) -> Callable[[Pool], None]:
    """Return what does CHANGE to the first pool only that it is told of."""
    seen: list[Pool] = []

    def told(pool: Pool) -> None:
        seen.append(pool)
        if len(seen) == 1:
            change(pool)

    return told


def test_what_is_there_is_read_by_a_pool_that_goes_again(connection: Any, host: Host) -> None:
    assert firmware_variables.held(connection, FILE) == HELD
    assert firmware_variables.held(connection, f"{DIRECTORY}/db_VARS.fd") is None
    firmware_variables.delete(connection, FILE)
    assert (host.files, host.pools) == ({}, [])


@pytest.mark.parametrize("when", ["asked", "downloading"])
@pytest.mark.parametrize("kept", [False, True], ids=["is gone", "is stopped"])
def test_that_the_pool_of_another_one_goes_is_not_that_there_is_no_file(
    connection: Any, host: Host, when: str, kept: bool
) -> None:
    host.pools.append(Pool(host, "pyguixvm-variables-theirs", kept=kept))
    setattr(host, when, once(Pool.go))
    assert firmware_variables.held(connection, FILE) == HELD


def test_what_cannot_be_told_is_an_error(connection: Any, host: Host) -> None:
    def refuse(_pool: Pool) -> None:
        raise error(libvirt.VIR_ERR_INTERNAL_ERROR)

    host.asked = refuse
    with pytest.raises(HypervisorError, match="look at"):
        firmware_variables.held(connection, FILE)
    assert host.pools == []


def test_what_one_who_was_killed_left_goes_and_what_is_somebodys_stays(
    connection: Any, host: Host
) -> None:
    left = Pool(host, "pyguixvm-variables-left")
    host.pools.append(left)
    assert firmware_variables.held(connection, FILE) == HELD
    assert host.pools == []
    theirs = Pool(host, "nvram", kept=True)
    host.pools.append(theirs)
    assert firmware_variables.held(connection, FILE) == HELD
    assert theirs.active


def test_a_pool_of_that_directory_that_is_stopped_is_so_afterwards(
    connection: Any, host: Host
) -> None:
    theirs = Pool(host, "nvram", active=False, kept=True)
    host.pools.append(theirs)
    assert firmware_variables.held(connection, FILE) == HELD
    assert not theirs.active
    assert host.pools == [theirs]


def test_a_pool_in_which_somebody_works_is_waited_for(connection: Any, host: Host) -> None:
    def work(pool: Pool) -> None:
        pool.busy = 1

    host.asked = once(work)
    assert firmware_variables.held(connection, FILE) == HELD
    assert host.pools == []
