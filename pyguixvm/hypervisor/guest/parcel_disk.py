# SPDX-License-Identifier: GPL-3.0-or-later
"""A parcel as a disk of its own, plugged into a guest that runs as long as it reads it.

The disk is the archive itself, without a file system: whatever has tar reads it.  Only the
guest that runs has it; its definition never does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import libvirt

from pyguixvm.errors import HypervisorError, RequestRefusedError
from pyguixvm.events import ignore
from pyguixvm.hypervisor import hotplug, upload, volumes
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.domains import our_domain
from pyguixvm.hypervisor.errors import explained
from pyguixvm.model.volume_names import parcel_volume
from pyguixvm.xml.storage import parcel_disk_xml

# What the guest knows it by: /sys/block/DISK/serial, of 20 characters at most.
SERIAL = "pyguixvm-parcel"


@contextmanager
def plugged(
    connection: Connection,
    name: str,
    pool: str,
    file: Path,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[None]:
    """Let the guest of domain NAME have what FILE holds as a disk while the body runs.

    The disk is a volume in POOL, and both go afterwards; what is left where that is not
    possible, the next call takes away, and `gc` if there is none.  Raises HypervisorError if
    the guest does not get it.
    """
    take_away(connection, name, pool, sleep)
    made = upload.upload_volume(connection, pool, parcel_volume(name), file, ignore, name)
    try:
        with explained(f"plug {made.name} into domain '{name}'"):
            element = parcel_disk_xml(made.path, SERIAL)
            our_domain(connection, name).attachDeviceFlags(element, libvirt.VIR_DOMAIN_AFFECT_LIVE)
        yield
    finally:
        # What is left goes the next time: how the body ended is what counts.
        with suppress(HypervisorError, RequestRefusedError):
            take_away(connection, name, pool, sleep)


def take_away(
    connection: Connection, name: str, pool: str, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Unplug the parcel from the guest of domain NAME, and delete it from POOL, if it is there.

    Raises HypervisorError if the guest does not let go of it.
    """
    volume = parcel_volume(name)
    hotplug.detach_disk(connection, name, volume, sleep)
    volumes.delete(connection, pool, volume)
