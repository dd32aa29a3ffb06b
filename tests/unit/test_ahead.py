# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections that are made before they are asked for; whoever connects is a fake."""

from __future__ import annotations

import threading
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import pytest
from waiting import eventually

from pyguixvm.commands.ahead import Ahead, Way
from pyguixvm.errors import HypervisorError
from pyguixvm.hypervisor.connection import Connection

if TYPE_CHECKING:
    from pyguixvm.commands.ahead import Opened

FAR = "qemu+tls://far/system"
BY_SSH = "qemu+ssh://far/system"


@dataclass
class Hypervisors:
    """Connect when they MAY, unless there is an ERROR; note what was MADE and CLOSED."""

    may: threading.Event = field(default_factory=threading.Event)
    error: HypervisorError | None = None
    made: list[Way] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)

    def connect(self, way: Way) -> Opened:
        self.made.append(way)
        assert self.may.wait(10)
        if self.error is not None:
            raise self.error
        with ExitStack() as own:
            own.callback(self.closed.append, way.uri)
            return connected(way.uri), own.pop_all()
        raise AssertionError


def connected(uri: str, *, local: bool = False) -> Connection:
    """Return what stands for a connection."""
    unused = cast("Any", None)
    return Connection(uri, local, *(5 * [unused]), verify=True, patience=3.0)


@pytest.fixture
def there() -> Hypervisors:
    found = Hypervisors()
    found.may.set()
    return found


BEFORE = Way(None, 3.0, False)


def test_at_first_there_is_none(there: Hypervisors) -> None:
    ahead = Ahead(there.connect)
    with ahead.connecting(None, BEFORE):
        assert ahead.take(FAR) is None
    assert there.made == []


def test_what_is_given_beforehand_is_there_at_first(there: Hypervisors) -> None:
    for asked in (FAR, None):
        ahead = Ahead(there.connect)
        with ahead.connecting(asked, Way(FAR, 3.0, True)):
            found = ahead.take(asked)
        assert found is not None
        assert found[0].uri == FAR
    assert there.made == 2 * [Way(FAR, 3.0, True)]
    assert there.closed == []


@pytest.mark.parametrize("uri", ["qemu:///system", "qemu+unix:///session", "alias"])
def test_what_is_here_or_may_be_is_not_connected_to_before(there: Hypervisors, uri: str) -> None:
    ahead = Ahead(there.connect)
    with ahead.connecting(uri, Way(uri, 3.0, False)):
        assert ahead.take(uri) is None
    assert there.made == []


def test_what_was_used_counts_more_than_what_was_given(there: Hypervisors) -> None:
    ahead = Ahead(there.connect)
    given = Way("qemu+tls://given/system", 3.0, True)
    with ahead.connecting(given.uri, given):
        ahead.used(FAR, connected(FAR))
    with ahead.connecting(given.uri, given):
        pass
    eventually(lambda: there.closed == [given.uri, FAR])


def test_what_was_used_is_there_the_next_time_by_what_it_is_asked_for(there: Hypervisors) -> None:
    ahead = Ahead(there.connect)
    ahead.used("alias", connected(FAR))
    ahead.used(None, connected("qemu:///system", local=True))
    with ahead.connecting(None, BEFORE):
        found = ahead.take("alias")
        assert found is not None
        assert found[0].uri == FAR
        # As it was connected to, and once.
        assert there.made == [Way(FAR, 3.0, True)]
        assert ahead.take("alias") is None
    assert there.closed == []
    found[1].close()
    assert there.closed == [FAR]


def test_what_was_not_used_again_is_still_known(there: Hypervisors) -> None:
    """After a configuration that could not be evaluated."""
    ahead = Ahead(there.connect)
    ahead.used(FAR, connected(FAR))
    for _ in range(3):
        with suppress(ValueError), ahead.connecting(None, BEFORE):
            raise ValueError
    eventually(lambda: there.closed == 3 * [FAR])
    with ahead.connecting(None, BEFORE):
        assert ahead.take(FAR) is not None


def test_nobody_waits_for_what_is_left(there: Hypervisors) -> None:
    there.may.clear()
    ahead = Ahead(there.connect)
    with ahead.connecting(FAR, Way(FAR, 3.0, False)):
        pass
    assert there.closed == []
    there.may.set()
    eventually(lambda: there.closed == [FAR])


def test_nobody_is_told_of_what_is_not_needed(there: Hypervisors) -> None:
    there.error = HypervisorError("no route to host")
    ahead = Ahead(there.connect)
    with ahead.connecting(FAR, Way(FAR, 3.0, False)):
        assert ahead.take("qemu+tls://another/system") is None


def test_who_cannot_be_reached_is_told_as_ever(there: Hypervisors) -> None:
    there.error = HypervisorError("no route to host")
    ahead = Ahead(there.connect)
    with (
        ahead.connecting(FAR, Way(FAR, 3.0, False)),
        pytest.raises(HypervisorError, match="no route"),
    ):
        ahead.take(FAR)


def test_where_a_person_may_be_asked_for_a_password_they_are(there: Hypervisors) -> None:
    there.error = HypervisorError("permission denied")
    ahead = Ahead(there.connect)
    with ahead.connecting(BY_SSH, Way(BY_SSH, 3.0, False)):
        assert ahead.take(BY_SSH) is None
