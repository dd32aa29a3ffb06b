# SPDX-License-Identifier: GPL-3.0-or-later
"""What a small file in a guest holds, as its agent reads it.

See guest-file-open in QEMU's qga/qapi-schema.json.
"""

from __future__ import annotations

import base64

import libvirt
import msgspec

from pyguixvm.hypervisor.guest import agent

# What an agent reads at once (bytes) where it is not told how much.
_MOST = 4096


class _Read(msgspec.Struct, frozen=True):
    buffer: str = msgspec.field(name="buf-b64")


def content(domain: libvirt.virDomain, path: str, seconds: int = agent.SECONDS) -> str | None:
    """Return the first 4 KiB of the file PATH in the guest of DOMAIN, which are text.

    None if its agent does not tell, within SECONDS for each of its answers, or tells something
    else.
    """
    handle = agent.ask(domain, "guest-file-open", int, seconds, path=path)
    if handle is None:
        return None
    try:
        read = agent.ask(domain, "guest-file-read", _Read, seconds, handle=handle, count=_MOST)
    finally:
        agent.ask(domain, "guest-file-close", msgspec.Raw, seconds, handle=handle)
    try:
        return None if read is None else base64.b64decode(read.buffer, validate=True).decode()
    except ValueError:
        return None
