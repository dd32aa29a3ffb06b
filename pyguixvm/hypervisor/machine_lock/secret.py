# SPDX-License-Identifier: GPL-3.0-or-later
"""The libvirt secrets that stand for the right to change machines.

Of each name that secrets are used by, a hypervisor has one: defining it is atomic.
They are removed by their UUIDs, one for each holder: whoever concluded that a holder
died removes that one's secret, and never that of a newer one.  Secrets depend on no
pool, survive libvirtd, and to change one makes libvirt read no directory again.
"""

from __future__ import annotations

from collections.abc import Iterable

import libvirt
import msgspec

from pyguixvm.decoding import decode
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.errors import is_code
from pyguixvm.hypervisor.machine_lock.holder import Holder
from pyguixvm.xml.secret import description, secret_xml

_KIND = libvirt.VIR_SECRET_USAGE_TYPE_CEPH
_USAGE = "pyguixvm lock "
# Far more than a holder takes (characters); what is longer was not written by us.
_LONGEST = 4096


class Found(msgspec.Struct, frozen=True):
    """The secret that stands for a machine; HOLDER is None if it does not tell who has it."""

    token: str
    holder: Holder | None


def define(connection: Connection, machine: str, token: str, holder: Holder) -> libvirt.virSecret:
    """Define the secret of MACHINE, with the UUID TOKEN; return it, for this package only.

    Raises libvirtError, such as `is_taken` knows if MACHINE has one.
    """
    xml = secret_xml(token, _USAGE + machine, msgspec.json.encode(holder).decode())
    return connection.handle.secretDefineXML(xml, 0)


def is_taken(error: libvirt.libvirtError) -> bool:
    """Whether ERROR may say that a machine has a secret already; that has no code of its own."""
    return is_code(error, libvirt.VIR_ERR_INTERNAL_ERROR)


def is_unsupported(error: libvirt.libvirtError) -> bool:
    """Whether ERROR says that the hypervisor keeps no secrets."""
    # Where each kind of object has a daemon of its own, that of secrets may be missing.
    return is_code(error, libvirt.VIR_ERR_NO_SUPPORT) or "virtsecretd" in str(error)


def find(connection: Connection, machine: str) -> Found | None:
    """Return the secret of MACHINE, None if there is none.  Raises libvirtError."""
    try:
        return _found(connection.handle.secretLookupByUsage(_KIND, _USAGE + machine))
    except libvirt.libvirtError as error:
        if is_code(error, libvirt.VIR_ERR_NO_SECRET):
            return None
        raise


def all_secrets(connection: Connection) -> list[libvirt.virSecret]:
    """Return the secrets of the hypervisor, whatever they are for; none if it keeps none.

    Libvirt's own objects, for this package only.  Raises libvirtError.
    """
    try:
        found: list[libvirt.virSecret] = connection.handle.listAllSecrets()
    except libvirt.libvirtError as error:
        if is_unsupported(error):
            return []
        raise
    return found


def find_all(secrets: Iterable[libvirt.virSecret]) -> dict[str, Found]:
    """Return those of SECRETS that are machines', by machine.  Raises libvirtError."""
    found = {}
    for secret in secrets:
        usage = secret.usageID() or ""
        if secret.usageType() == _KIND and usage.startswith(_USAGE):
            try:
                found[usage.removeprefix(_USAGE)] = _found(secret)
            except libvirt.libvirtError as error:
                if not is_code(error, libvirt.VIR_ERR_NO_SECRET):  # removed since
                    raise
    return found


def is_there(connection: Connection, token: str) -> bool:
    """Whether the secret TOKEN was not removed.  Raises libvirtError."""
    return _lookup(connection, token) is not None


def set_value(connection: Connection, token: str, value: bytes) -> bool:
    """Let the secret TOKEN have VALUE; False if there is none, which stays so.

    Raises libvirtError.
    """
    try:
        secret = _lookup(connection, token)
        if secret is not None:
            secret.setValue(value, 0)
    except libvirt.libvirtError as error:
        if is_code(error, libvirt.VIR_ERR_NO_SECRET):
            return False
        raise
    return secret is not None


def value(connection: Connection, token: str) -> bytes | None:
    """Return the value of the secret TOKEN, empty at first, None if there is no such secret.

    Raises libvirtError.
    """
    secret = _lookup(connection, token)
    if secret is None:
        return None
    try:
        return bytes(secret.value(0))
    except libvirt.libvirtError as error:
        if is_code(error, libvirt.VIR_ERR_NO_SECRET):  # of a secret without a value, too
            return b""
        raise


def remove(connection: Connection, token: str, defined: libvirt.virSecret | None = None) -> None:
    """Remove the secret TOKEN, if it is there still.  Raises libvirtError.

    DEFINED is that, if it is known.
    """
    try:
        secret = defined or _lookup(connection, token)
        if secret is not None:
            secret.undefine()
    except libvirt.libvirtError as error:
        if not is_code(error, libvirt.VIR_ERR_NO_SECRET):
            raise


def _lookup(connection: Connection, token: str) -> libvirt.virSecret | None:
    try:
        return connection.handle.secretLookupByUUIDString(token)
    except libvirt.libvirtError as error:
        if is_code(error, libvirt.VIR_ERR_NO_SECRET):
            return None
        raise


def _found(secret: libvirt.virSecret) -> Found:
    return Found(secret.UUIDString(), _holder(secret.XMLDesc(0)))


def _holder(xml: str) -> Holder | None:
    try:
        text = description(xml)
        return decode(text, Holder) if len(text) <= _LONGEST else None
    except (ValueError, msgspec.DecodeError):
        return None
