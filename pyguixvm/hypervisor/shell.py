# SPDX-License-Identifier: GPL-3.0-or-later
"""The shell of a hypervisor's host, where ssh leads to one."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit


def shell(uri: str, command: str) -> list[str] | None:
    """Return what runs COMMAND by the shell of the host of URI; None if that is not behind ssh.

    It asks nobody for anything: who has to type a password has no shell.  Nor has who names the
    socket: what listens there may see other files than that host, a container for example.
    It ends when the line does.

    >>> " ".join(shell("qemu+ssh://root@host:2222/system?keyfile=key", "true"))
    'ssh -o BatchMode=yes -o ServerAliveInterval=10 -i key -p 2222 -- root@host true'
    >>> shell("qemu+ssh://host/system?socket=/srv/libvirt-sock", "true")
    """
    parts = urlsplit(uri)
    if parts.scheme.partition("+")[2] != "ssh" or not parts.hostname:
        return None
    query = parse_qs(parts.query)
    if "socket" in query:
        return None
    words = [*query.get("command", ["ssh"])[:1], "-o", "BatchMode=yes"]
    words += ["-o", "ServerAliveInterval=10"]
    for key in query.get("keyfile", [])[:1]:
        words += ["-i", key]
    if parts.port:
        words += ["-p", str(parts.port)]
    host = f"{parts.username}@{parts.hostname}" if parts.username else parts.hostname
    return [*words, "--", host, command]


def has_shell(uri: str) -> bool:
    """Whether there may be a shell of the host of URI for us."""
    return shell(uri, "") is not None
