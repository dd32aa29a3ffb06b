# SPDX-License-Identifier: GPL-3.0-or-later
"""How the system's own ssh gets to a guest."""

from __future__ import annotations

import shlex
from urllib.parse import parse_qs, urlsplit

from pyguixvm.commands.machines import machines_metadata
from pyguixvm.commands.session import Session
from pyguixvm.errors import RequestRefusedError
from pyguixvm.hypervisor import domains
from pyguixvm.hypervisor.connection import connect
from pyguixvm.hypervisor.guest.addresses import addresses
from pyguixvm.hypervisor.guest.host_key import ssh_host_key
from pyguixvm.model.unreactive import awakening


def ssh_options(session: Session, machine: str) -> tuple[str, ...]:
    """Return the options by which ssh and scp find the guest of MACHINE under that name.

    What the user's configuration says of a host of that name holds as well.  If the guest's
    agent tells its host key, no other is accepted; else known_hosts decides, where it goes by
    the UUID.  The address is one that the hypervisor's host sees, if it sees any.  A guest of
    a hypervisor behind ssh is reached through that.  Raises RequestRefusedError if it does not
    run, or has no address.
    """
    with connect(session.uri) as connection:
        machines_metadata(connection, [machine])
        state = domains.state(connection, machine)
        if state != "running":
            raise RequestRefusedError(
                f"'{machine}' does not run: it is {state}",
                hint=f"Have it run: {awakening(machine, state)}",
            )
        found = addresses(connection, machine, seen_by_host=True)
        if not found:
            raise RequestRefusedError(
                f"no address of '{machine}' is known",
                hint=f"See what it is doing: pyguixvm console {machine}",
            )
        name = f"{machine}-{domains.our_domain(connection, machine).UUIDString()}"
        key = ssh_host_key(connection, machine)
        jump = through(connection.uri)
    options = [f"HostName={found[0]}", f"HostKeyAlias={name}"]
    if key is not None:
        kind, _ = key.split()
        options += [
            f"KnownHostsCommand=/usr/bin/env echo {name} {key}",
            "UserKnownHostsFile=none",
            "GlobalKnownHostsFile=none",
            "StrictHostKeyChecking=yes",
            f"HostKeyAlgorithms={kind}",
        ]
    if jump is not None:
        options.append(f"ProxyCommand={jump}")
    return tuple(word for option in options for word in ("-o", option))


def through(uri: str) -> str | None:
    """Return the command that leads on from the host of URI, None if that is not behind ssh.

    >>> through("qemu+ssh://root@host:2222/system?keyfile=key")
    'ssh -i key -p 2222 -W %h:%p root@host'
    """
    parts = urlsplit(uri)
    _, _, transport = parts.scheme.partition("+")
    if transport not in {"ssh", "libssh", "libssh2"} or not parts.hostname:
        return None
    query = parse_qs(parts.query)
    words = [*query.get("command", ["ssh"])[:1]]
    for key in query.get("keyfile", [])[:1]:
        words += ["-i", key]
    if parts.port:
        words += ["-p", str(parts.port)]
    host = f"{parts.username}@{parts.hostname}" if parts.username else parts.hostname
    return " ".join([*(shlex.quote(word).replace("%", "%%") for word in words), "-W", "%h:%p",
                     shlex.quote(host).replace("%", "%%")])  # fmt: skip
