# SPDX-License-Identifier: GPL-3.0-or-later
"""A volume that is yet to be made of a file of this machine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from pyguixvm.hypervisor.volumes import Volume


@dataclass(frozen=True)
class NewVolume:
    """Volume NAME of POOL, with MODE and OWNER as for a `VolumeDefinition`.

    RESUMABLE: what is broken off while it is sent is gone on with.
    """

    pool: str
    name: str
    mode: int = 0o600
    owner: int | None = None
    resumable: bool = False


# Makes a volume of a file, for the body; as `uploaded` does.
Place: TypeAlias = Callable[[Path, NewVolume], AbstractContextManager[Volume]]
