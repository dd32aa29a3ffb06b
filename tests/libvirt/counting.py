# SPDX-License-Identifier: GPL-3.0-or-later
"""Which requests go to libvirtd: libvirt's C module as the Python binding calls it, counted."""

import threading
from collections import Counter
from contextlib import contextmanager

import libvirt

# What stays in this process: taking note, letting go, reading what was got before.
_LOCAL = (
    "virConnectClose",
    "virConnectDomainEventDeregister",
    "virConnectGetConnect",
    "virConnectGetURI",
    "virConnectIsAlive",
    "virErr",
    "virError",
    "virEvent",
    "virGetLastError",
    "virInitialize",
    "virRegisterErrorHandler",
    "virSetErrorFunc",
)
_LOCAL_ENDS = ("Free", "Ref", "GetName", "GetUUID", "GetUUIDString", "GetKey", "GetConnect")
_LOCAL_NAMES = frozenset({
    "virSecretGetUsageID",
    "virSecretGetUsageType",
    "virStreamEventAddCallback",
    "virStreamEventRemoveCallback",
    "virStreamEventUpdateCallback",
    "virStreamNew",
    "virStreamRecv",
    "virStreamSend",
})  # fmt: skip


def is_remote(name):
    return (
        name.startswith("vir")
        and not name.startswith(_LOCAL)
        and not name.endswith(_LOCAL_ENDS)
        and name not in _LOCAL_NAMES
    )


class _Counted:
    """Stands for a module; COUNTS are its functions' calls by their names."""

    def __init__(self, module, counts):
        self._module, self._counts = module, counts
        self._lock = threading.Lock()

    def __getattr__(self, name):
        found = getattr(self._module, name)
        if not (callable(found) and is_remote(name)):
            return found

        def counted(*arguments):
            with self._lock:
                self._counts[name] += 1
            return found(*arguments)

        return counted


@contextmanager
def requests():
    """Yield the requests of the body by name, as they become more."""
    counts, module = Counter(), libvirt.libvirtmod
    libvirt.libvirtmod = _Counted(module, counts)
    try:
        yield counts
    finally:
        libvirt.libvirtmod = module
