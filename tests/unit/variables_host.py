# SPDX-License-Identifier: GPL-3.0-or-later
"""A hypervisor whose host has a directory of firmware's variables, and takes one pool of it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import libvirt

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
        self.domains: dict[str, str] = {}
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

    def listAllDomains(self, _flags: int) -> list[Any]:  # noqa: N802
        return [self.lookupByName(name) for name in self.domains]

    def lookupByName(self, name: str) -> Any:  # noqa: N802
        if name not in self.domains:
            raise error(libvirt.VIR_ERR_NO_DOMAIN)
        return SimpleNamespace(
            name=lambda: name,
            UUIDString=lambda: "0" * 36,
            XMLDesc=lambda _flags: self.domains[name],
            isActive=lambda: 0,
            listAllSnapshots=lambda _flags: [],
        )

    def pool(self, name: str) -> Pool:
        for pool in self.pools:
            if pool.name() == name:
                return pool
        raise error(libvirt.VIR_ERR_NO_STORAGE_POOL)


def connection_to(host: Host) -> Any:
    return SimpleNamespace(uri="qemu:///system", local=True, handle=host, resolved=host)
