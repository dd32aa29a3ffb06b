# SPDX-License-Identifier: GPL-3.0-or-later
"""Firmware's variables are read by a pool that others make and end, too."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import libvirt
import pytest

from pyguixvm.errors import HypervisorError
from pyguixvm.hypervisor import firmware_variables
from pyguixvm.xml.pool import directory_pool_xml, pool_path

DIRECTORY = "/var/lib/libvirt/qemu/nvram"
FILE = f"{DIRECTORY}/web_VARS.fd"
HELD = b"boot entries and keys"
BUSY = "pool has asynchronous jobs running."


def error(code: int, text: str = "no") -> libvirt.libvirtError:
    made = libvirt.libvirtError(text)
    made.err = (code, 0, text, 0, "", "", "", 0, 0)
    return made


class Pool:
    """A pool of HOST's, which others may have made."""

    def __init__(self, host: Host, name: str, *, active: bool = True, kept: bool = False) -> None:
        self.host, self._name, self.active, self.kept = host, name, active, kept
        self.busy = 0

    def name(self) -> str:
        return self._name

    def XMLDesc(self, _flags: int) -> str:  # noqa: N802
        return directory_pool_xml(self._name, DIRECTORY)

    def isActive(self) -> bool:  # noqa: N802
        self._require_there()
        return self.active

    def create(self, _flags: int) -> None:
        self.active = True

    def refresh(self, _flags: int) -> None:
        self._require_active()

    def destroy(self) -> None:
        self._require_active()
        if self.busy:
            self.busy -= 1
            raise error(libvirt.VIR_ERR_INTERNAL_ERROR, BUSY)
        self.go()

    def go(self) -> None:
        self.active = False
        if not self.kept:
            self.host.pools.remove(self)

    def storageVolLookupByName(self, name: str) -> Any:  # noqa: N802
        self.host.asked(self)
        self._require_active()
        if name not in self.host.files:
            raise error(libvirt.VIR_ERR_NO_STORAGE_VOL)
        return Volume(self, name)

    def _require_there(self) -> None:
        if self not in self.host.pools:
            raise error(libvirt.VIR_ERR_NO_STORAGE_POOL)

    def _require_active(self) -> None:
        self._require_there()
        if not self.active:
            raise error(libvirt.VIR_ERR_OPERATION_INVALID)


class Volume:
    def __init__(self, pool: Pool, name: str) -> None:
        self._pool, self._name = pool, name

    def name(self) -> str:
        return self._name

    def XMLDesc(self, _flags: int) -> str:  # noqa: N802
        return "<volume><capacity>21</capacity><physical>21</physical></volume>"

    def download(self, stream: Any, *_arguments: int) -> None:
        self._pool.host.downloading(self._pool)
        self._pool._require_active()
        stream.parts = [self._pool.host.files[self._name]]

    def delete(self, _flags: int) -> None:
        self._pool._require_active()
        del self._pool.host.files[self._name]


class Host:
    """A hypervisor that takes one pool of DIRECTORY; what happens as it is asked can be set."""

    def __init__(self) -> None:
        self.files = {"web_VARS.fd": HELD}
        self.pools: list[Pool] = []
        self.asked: Callable[[Pool], None] = lambda _pool: None
        self.downloading: Callable[[Pool], None] = lambda _pool: None

    def storagePoolCreateXML(self, xml: str, _flags: int) -> Pool:  # noqa: N802
        assert pool_path(xml) == DIRECTORY
        if self.pools:
            raise error(libvirt.VIR_ERR_OPERATION_FAILED)
        self.pools.append(Pool(self, f"pyguixvm-variables-{len(self.pools)}"))
        return self.pools[-1]

    def storagePoolLookupByTargetPath(self, _directory: str) -> Pool:  # noqa: N802
        for pool in self.pools:
            if pool.active:
                return pool
        raise error(libvirt.VIR_ERR_NO_STORAGE_POOL)

    def listAllStoragePools(self, _flags: int) -> list[Pool]:  # noqa: N802
        return [pool for pool in self.pools if not pool.active]

    def newStream(self, _flags: int) -> Any:  # noqa: N802
        stream = SimpleNamespace(parts=[])
        stream.recvFlags = lambda *_: stream.parts.pop() if stream.parts else b""
        stream.finish = stream.abort = lambda: None
        return stream

    def pool(self, name: str) -> Pool:
        for pool in self.pools:
            if pool.name() == name:
                return pool
        raise error(libvirt.VIR_ERR_NO_STORAGE_POOL)


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def connection(host: Host) -> Any:
    return SimpleNamespace(uri="qemu:///system", local=True, handle=host, resolved=host)


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
