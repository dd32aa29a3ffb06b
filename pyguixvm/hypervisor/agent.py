# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest's agent is asked for: QEMU's qga/qapi-schema.json says how."""

from __future__ import annotations

import base64
import json

import libvirt
import libvirt_qemu

# How long (seconds) an agent may take; it answers at once, or it is gone.
_SECONDS = 2


def ask(domain: libvirt.virDomain, command: str, **arguments: object) -> object:
    """Return what the agent of DOMAIN answers to COMMAND.  Raises libvirtError."""
    request = json.dumps({"execute": command, **({"arguments": arguments} if arguments else {})})
    answer = libvirt_qemu.qemuAgentCommand(domain, request, _SECONDS, 0)
    returned: object = json.loads(answer)["return"]
    return returned


def fields(domain: libvirt.virDomain, command: str, **arguments: object) -> dict[str, object]:
    """Return the fields of what the agent of DOMAIN answers to COMMAND.  Raises libvirtError."""
    answer = ask(domain, command, **arguments)
    return answer if isinstance(answer, dict) else {}


def read_file(domain: libvirt.virDomain, path: str) -> bytes:
    """Return the first 4 KiB or so of the guest's file PATH.  Raises libvirtError."""
    handle = ask(domain, "guest-file-open", path=path)
    try:
        read = fields(domain, "guest-file-read", handle=handle)
        return base64.b64decode(str(read["buf-b64"]))
    finally:
        ask(domain, "guest-file-close", handle=handle)
