# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest's agent is asked for: QEMU's qga/qapi-schema.json says how.

Whoever is root in a guest is its agent: it may say anything, at any length, or nothing.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TypeVar

import libvirt
import libvirt_qemu
import msgspec

from pyguixvm.decoding import decode
from pyguixvm.hypervisor.bounded import call
from pyguixvm.xml.inspection import has_agent
from pyguixvm.xml.text import parse

# How long (seconds) an agent may take to say something; it does at once, or never.
SECONDS = 2
# How long (seconds) one may take for what makes a guest write to its disks.
PATIENCE = 15
# More than any answer takes that is of use (characters).
_LONGEST = 256 * 1024

_Type = TypeVar("_Type")


class _Answer(msgspec.Struct, frozen=True):
    returned: msgspec.Raw = msgspec.field(name="return")


def connected(domain: libvirt.virDomain, seconds: int = SECONDS) -> bool:
    """Whether an agent of DOMAIN listens; each answer that libvirt asks it for has SECONDS.

    Without that, libvirt waits for ever for one that says nothing.
    """
    try:
        if not listens(domain):
            return False
        limit(domain, seconds)
    except libvirt.libvirtError:
        return False
    return True


def listens(domain: libvirt.virDomain) -> bool:
    """Whether an agent of DOMAIN listens.  Raises libvirtError: then nobody knows."""
    return has_agent(parse(domain.XMLDesc(0)))


def limit(domain: libvirt.virDomain, seconds: int) -> None:
    """Let libvirt wait no longer than SECONDS for each answer of the agent of DOMAIN.

    Raises libvirtError.
    """
    domain.agentSetResponseTimeout(seconds, 0)


def ask(
    domain: libvirt.virDomain,
    command: str,
    answer: type[_Type],
    seconds: int = SECONDS,
    **arguments: object,
) -> _Type | None:
    """Return what the agent of DOMAIN answers to COMMAND, which is to be of the type ANSWER.

    Return None if it says nothing for SECONDS, or anything else.
    """
    request = json.dumps({"execute": command, **({"arguments": arguments} if arguments else {})})
    # What is no UTF-8, the binding cannot pass on; what is nested too deep, nobody can.
    with suppress(libvirt.libvirtError, msgspec.MsgspecError, ValueError, RecursionError):
        said = call(libvirt_qemu.qemuAgentCommand, domain, request, seconds, 0)
        if len(said) <= _LONGEST:
            returned = decode(said, _Answer).returned
            return decode(returned, answer)
    return None
