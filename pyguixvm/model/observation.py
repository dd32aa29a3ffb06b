# SPDX-License-Identifier: GPL-3.0-or-later
"""What was found on a hypervisor, at one moment."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from pyguixvm.model.generation import Metadata

State: TypeAlias = Literal["running", "paused", "shut off", "crashed", "suspended"]


class ObservedDomain(msgspec.Struct, frozen=True, rename="kebab"):
    """A domain; METADATA is None for one that is not ours.

    UNREADABLE says why our metadata cannot be read (a newer pyguixvm wrote
    it, or it is damaged): such a domain is ours and METADATA is None.
    """

    name: str
    uuid: str
    state: State
    autostart: bool
    persistent: bool
    memory: int
    cpu: int
    metadata: Metadata | None = None
    unreadable: str | None = None


class Observation(msgspec.Struct, frozen=True, rename="kebab"):
    """The domains of the hypervisor at URI, by name; LOCAL if it is this machine.

    VOLUMES are the names, in all active pools, of the volumes that carry our prefix.
    """

    uri: str
    local: bool
    domains: dict[str, ObservedDomain]
    volumes: tuple[str, ...] = ()
