# SPDX-License-Identifier: GPL-3.0-or-later
"""What this machine's own images mean for the machines of a hypervisor."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from pyguixvm.digest.memory import Digests
from pyguixvm.errors import RequestRefusedError
from pyguixvm.guix.made_images import MadeImages
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.model.image import LocalImage
from pyguixvm.model.observation import Observation
from pyguixvm.model.volume_names import base_volume, is_base_by_digest


def with_images_here(
    observation: Observation,
    machines: Iterable[VirtualMachine],
    state_directory: Path,
    before: Observation | None = None,
) -> Observation:
    """Return OBSERVATION with what MACHINES can stand on here, as STATE_DIRECTORY remembers it.

    After another one BEFORE, it is what that had: what was made since, maybe for these machines,
    is no reason to do otherwise than was told.
    """
    found = _with_local_bases(observation, machines, Digests(state_directory))
    if before is not None:
        return msgspec.structs.replace(found, spare=before.spare)
    if not found.local:
        # Less travels of the image of its own.
        return found
    return msgspec.structs.replace(found, spare=MadeImages(state_directory).there())


def _with_local_bases(
    observation: Observation, machines: Iterable[VirtualMachine], digests: Digests
) -> Observation:
    """Return OBSERVATION with the base volume that the local image of each of MACHINES needs.

    Of those only that seem to stand on it.  Its declaration has the image's size and the time of
    its last write, which may be the same for other bits: a time can be set, and has whole seconds
    there.  So it is read when it may have changed since DIGESTS knew it.
    """
    found = dict(observation.domains)
    for machine in machines:
        domain = observation.domains.get(machine.name)
        if domain is None or domain.metadata is None:
            continue
        applied = domain.metadata.generation
        if (
            isinstance(machine.image, LocalImage)
            and machine.image == applied.declaration.image
            and applied.base is not None
            and is_base_by_digest(applied.base)
        ):
            # One that is gone, or is being written to, is told when it is needed.
            with suppress(OSError, RequestRefusedError):
                needed = base_volume(digests.of(Path(machine.image.path)).digest)
                found[machine.name] = msgspec.structs.replace(domain, local_base=needed)
    return msgspec.structs.replace(observation, domains=found)
