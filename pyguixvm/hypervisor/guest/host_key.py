# SPDX-License-Identifier: GPL-3.0-or-later
"""The ssh host key of a guest, told by its agent.

That way is as safe as the hypervisor is, and nobody has to trust a key that is seen for
the first time.
"""

from __future__ import annotations

import base64
import re

import libvirt
import msgspec

from pyguixvm.hypervisor import domains
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.domains import Which
from pyguixvm.hypervisor.guest import agent

# The kind that both Guile-SSH and OpenSSH prefer.
_FILE = "/etc/ssh/ssh_host_ed25519_key.pub"
# Kind and key (RFC 4253, 6.6; RFC 8709), of one size always; a comment is of no use.
_KEY = re.compile(r"(ssh-ed25519 [A-Za-z0-9+/]{68}={0,2})(?: [^\n]*)?\n?")


class _Read(msgspec.Struct, frozen=True):
    buffer: str = msgspec.field(name="buf-b64")


def ssh_host_key(connection: Connection, name: Which) -> str | None:
    """Return the public ssh host key of the guest of NAME, without a comment.

    None if its agent does not tell, or tells something else.
    """
    domain = domains.our_domain(connection, name)
    if not agent.connected(domain):
        return None
    handle = agent.ask(domain, "guest-file-open", int, path=_FILE)
    if handle is None:
        return None
    key = _key(domain, handle)
    agent.ask(domain, "guest-file-close", msgspec.Raw, handle=handle)
    return key


def _key(domain: libvirt.virDomain, handle: int) -> str | None:
    """Return the key in the file of the guest that is open as HANDLE; its first 4 KiB serve."""
    read = agent.ask(domain, "guest-file-read", _Read, handle=handle)
    try:
        text = base64.b64decode(read.buffer, validate=True).decode() if read else ""
    except ValueError:
        return None
    found = _KEY.fullmatch(text)
    return found[1] if found else None
