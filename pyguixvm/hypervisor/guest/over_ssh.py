# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest without an agent says of itself over ssh.

A guest is asked only if the person who asks knows its host key already, and what answers is
believed only if it takes itself for that very domain: an address may be another one's by now.
Nobody is asked for a password, and no key is accepted because it is seen for the first time.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from pyguixvm import process
from pyguixvm.errors import PyguixvmError
from pyguixvm.hypervisor.guest import script
from pyguixvm.model.guest import Inside

# How long (seconds) a guest may take to accept a connection, and for all that it is asked.
_CONNECT = 3
_PATIENCE = 15.0
# As much (bytes) of what it says is read.
_MOST = 1024**2
_OPTIONS = (
    "BatchMode=yes", "StrictHostKeyChecking=yes",
    "ClearAllForwardings=yes", "ForwardAgent=no", "ControlPath=none", "UpdateHostKeys=no",
    "LogLevel=ERROR",
)  # fmt: skip
# How known_hosts has names that nobody is to read there (sshd(8)).
_HASHED = "|1|"


def inside_over_ssh(
    addresses: Iterable[str],
    uuid: str,
    known_hosts: Path | None = None,
    clock: Callable[[], float] = time.time,
) -> Inside | None:
    """Return what root's shell at the first of ADDRESSES that KNOWN_HOSTS has says of its guest.

    None if there is none, if it does not let us in, or if it is not the domain of UUID.
    KNOWN_HOSTS are the user's own if None.
    """
    command = login(addresses, known_hosts)
    if command is None:
        return None
    with suppress(PyguixvmError):
        done = process.run(
            [*command, script.SHELL],
            stdin=(script.SCRIPT + script.FILE_SYSTEMS).encode(),
            timeout=_PATIENCE,
            check=False,
            most=_MOST,
        )
        said = script.understood(done.stdout.decode(errors="replace"))
        if said.uuid == uuid:
            ahead = None if said.clock is None else round(said.clock - clock(), 1)
            return msgspec.structs.replace(said.inside, clock=ahead, by="ssh")
    return None


def login(
    addresses: Iterable[str],
    known_hosts: Path | None = None,
    alias: str | None = None,
    connect: int = _CONNECT,
) -> list[str] | None:
    """Return the command that logs root in at one of ADDRESSES whose key KNOWN_HOSTS has.

    It has a key by an address, or by ALIAS for whatever address.  None if it has none.
    CONNECT is how many seconds the guest may take for its first words.
    """
    file = known_hosts or Path.home() / ".ssh/known_hosts"
    known, addresses = frozenset(_entries(file)), tuple(addresses)
    by_alias = alias is not None and _knows(known, alias)
    there = addresses if by_alias else [each for each in addresses if _knows(known, each)]
    if not there:
        return None
    options = (
        *_OPTIONS, f"ConnectTimeout={connect}", f"UserKnownHostsFile={file}",
        *([f"HostKeyAlias={alias}"] if by_alias else []),
    )  # fmt: skip
    words = [word for option in options for word in ("-o", option)]
    return ["ssh", *words, "-l", "root", "--", there[0]]


def _entries(known_hosts: Path) -> Iterator[str]:
    """Yield the names of hosts in KNOWN_HOSTS, as they stand there."""
    with suppress(OSError):
        for line in known_hosts.read_text(errors="replace").splitlines():
            names = line.split(maxsplit=1)
            # What is revoked is not known, and whom an authority vouches for is not named.
            if names and not names[0].startswith(("#", "@")):
                yield from names[0].split(",")


def _knows(known: Iterable[str], address: str) -> bool:
    return any(
        _is_hash_of(entry, address) if entry.startswith(_HASHED) else entry == address
        for entry in known
    )


def _is_hash_of(entry: str, address: str) -> bool:
    with suppress(ValueError):
        salt, hashed = (base64.b64decode(part) for part in entry.removeprefix(_HASHED).split("|"))
        return hmac.compare_digest(hmac.digest(salt, address.encode(), hashlib.sha1), hashed)
    return False
