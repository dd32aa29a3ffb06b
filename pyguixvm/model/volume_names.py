# SPDX-License-Identifier: GPL-3.0-or-later
"""The names of our volumes; pure, and imported without libvirt.

``pyguixvm-NAME.gN.qcow2`` is the root of generation N of machine NAME,
``pyguixvm-NAME.DISK.qcow2`` its data disk DISK, ``pyguixvm-NAME.trial`` what a
throwaway copy of it writes to, ``pyguixvm-NAME.parcel`` what is brought to its guest while
that runs, ``pyguixvm-NAME.variables`` what its firmware keeps since it was moved, and
``pyguixvm-DIGEST.img`` a base volume, shared by
whoever has the same image: DIGEST is that of its bits.  Earlier versions named it
``pyguixvm-HASH.img``, by the store item's hash or the file's name, size and time, which
two images may have in common.
Volumes cannot be renamed, so ``….partial`` beside a volume marks it as
incomplete.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

PREFIX = "pyguixvm-"

_MARKER_SUFFIX = ".partial"
_PARCEL_SUFFIX = ".parcel"
_VARIABLES_SUFFIX = ".variables"
_FORMER_LOCK_SUFFIX = ".lock"
_COPY_SUFFIX = "-test"
_STORE_ITEM = re.compile(r"/gnu/store/[0-9a-df-np-sv-z]{32}-[^/]+")
_GENERATION = re.compile(re.escape(PREFIX) + r"(?P<machine>.+)\.g(?P<number>[1-9][0-9]*)\.qcow2")
_DATA = re.compile(re.escape(PREFIX) + r"(?P<machine>.+)\.(?P<disk>[a-z0-9-]+)\.qcow2")
_TRIAL = re.compile(re.escape(PREFIX) + r".+\.trial(-[a-z0-9-]+)?")
_BASE = re.compile(re.escape(PREFIX) + r"([0-9a-f]{64}|[0-9a-z]{32})\.img")


def generation_volume(machine: str, number: int) -> str:
    """Return the name of the root volume of generation NUMBER of MACHINE."""
    return f"{PREFIX}{machine}.g{number}.qcow2"


def generation_of(volume: str) -> tuple[str, int] | None:
    """Return machine and generation number that VOLUME is named after, if it is so named."""
    found = _GENERATION.fullmatch(volume)
    return (found["machine"], int(found["number"])) if found else None


def free_number(machine: str, volumes: Iterable[str], known: Iterable[int] = ()) -> int:
    """Return a number above those KNOWN and those of MACHINE's root volumes among VOLUMES."""
    named = (generation_of(volume) for volume in volumes)
    taken = (found[1] for found in named if found and found[0] == machine)
    return 1 + max([*known, *taken], default=0)


def data_volume(machine: str, disk: str) -> str:
    """Return the name of the volume of data disk DISK of MACHINE."""
    return f"{PREFIX}{machine}.{disk}.qcow2"


def file_name(path: str) -> str:
    """Return what PATH calls its file in its directory.

    For all disks of all machines a path object takes a good part of what a plan does.
    """
    return path.rpartition("/")[2]


def data_of(volume: str) -> tuple[str, str] | None:
    """Return machine and data disk that VOLUME is named after, if it is so named."""
    found = None if generation_of(volume) else _DATA.fullmatch(volume)
    return (found["machine"], found["disk"]) if found else None


def data_label(disk: str) -> str:
    """Return the label of the file system of data disk DISK, and its serial number."""
    return f"data-{disk}"


def base_volume(digest: str) -> str:
    """Return the name of the base volume that holds a disk image with DIGEST (hexadecimal)."""
    return f"{PREFIX}{digest}.img"


def is_store_item(path: str) -> bool:
    """Whether PATH is the file name of a whole store item."""
    return _STORE_ITEM.fullmatch(path) is not None


def trial_volume(machine: str, disk: str | None = None) -> str:
    """Return the name of the root, or of data disk DISK, of a throwaway copy of MACHINE."""
    return f"{PREFIX}{machine}.trial" + ("" if disk is None else f"-{disk}")


def parcel_volume(machine: str) -> str:
    """Return the name of the volume that brings something to the running guest of MACHINE."""
    return f"{PREFIX}{machine}{_PARCEL_SUFFIX}"


def variables_volume(machine: str) -> str:
    """Return the name of the volume of what UEFI firmware keeps of MACHINE, which has moved."""
    return f"{PREFIX}{machine}{_VARIABLES_SUFFIX}"


def is_parcel(volume: str) -> bool:
    """Whether VOLUME is named as one that brings something to a guest."""
    return is_ours(volume) and volume.endswith(_PARCEL_SUFFIX)


def is_trial(volume: str) -> bool:
    """Whether VOLUME is named as what a throwaway copy writes to."""
    return _TRIAL.fullmatch(volume) is not None


def trial_domain(machine: str) -> str:
    """Return the name of the domain of a throwaway copy of MACHINE."""
    return machine + _COPY_SUFFIX


def tried_machine(domain: str) -> str | None:
    """Return the machine that DOMAIN is named as a throwaway copy of, if it is so named."""
    machine = domain.removesuffix(_COPY_SUFFIX)
    return machine if machine not in {"", domain} else None


def trial_mac(machine: str, index: int) -> str:
    """Return the MAC address of interface INDEX of a throwaway copy of MACHINE."""
    digest = hashlib.sha256(f"{machine}\0trial\0{index}".encode()).hexdigest()
    return f"52:54:00:{digest[0:2]}:{digest[2:4]}:{digest[4:6]}"


def is_base(volume: str) -> bool:
    """Whether VOLUME is named as a base volume is."""
    return _BASE.fullmatch(volume) is not None


def is_base_by_digest(volume: str) -> bool:
    """Whether VOLUME is named as a base volume is whose name says what it holds."""
    return is_base(volume) and len(volume) == len(base_volume(hashlib.sha256().hexdigest()))


def is_former_lock(volume: str) -> bool:
    """Whether VOLUME is one by which earlier versions locked a machine."""
    return is_ours(volume) and volume.endswith(_FORMER_LOCK_SUFFIX)


def marker(volume: str) -> str:
    """Return the name of the volume that marks VOLUME as incomplete."""
    return volume + _MARKER_SUFFIX


def is_marker(volume: str) -> bool:
    """Whether VOLUME marks another one as incomplete."""
    return volume.endswith(_MARKER_SUFFIX)


def is_ours(volume: str) -> bool:
    """Whether VOLUME carries our prefix; no other volume is ever written or deleted."""
    return volume.startswith(PREFIX)
