# SPDX-License-Identifier: GPL-3.0-or-later
"""The ssh host key of a guest, told by its agent.

That way is as safe as the hypervisor is, and nobody has to trust a key that is seen for
the first time.
"""

from __future__ import annotations

import re

from pyguixvm.hypervisor import domains
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.domains import Which
from pyguixvm.hypervisor.guest import agent
from pyguixvm.hypervisor.guest.content import content

# The kind that both Guile-SSH and OpenSSH prefer.
_FILE = "/etc/ssh/ssh_host_ed25519_key.pub"
# Kind and key (RFC 4253, 6.6; RFC 8709), of one size always; a comment is of no use.
_KEY = re.compile(r"(ssh-ed25519 [A-Za-z0-9+/]{68}={0,2})(?: [^\n]*)?\n?")


def ssh_host_key(connection: Connection, name: Which) -> str | None:
    """Return the public ssh host key of the guest of NAME, without a comment.

    None if its agent does not tell, or tells something else.
    """
    domain = domains.our_domain(connection, name)
    if not agent.connected(domain):
        return None
    found = _KEY.fullmatch(content(domain, _FILE) or "")
    return found[1] if found else None
