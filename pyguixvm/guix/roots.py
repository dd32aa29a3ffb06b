# SPDX-License-Identifier: GPL-3.0-or-later
"""The links that keep Guix's garbage collector from what generations stand on.

They are where the collector looks by itself: below /var/guix/gcroots, which is root's, or in
/var/guix/profiles/per-user/USER, which is USER's.  The collector takes a link in a home
directory for gone, and forgets it for good, if that is not mounted when it looks.

Links of a generation are named by the UUID of its machine's domain and its number.  What is
made for a domain that is not defined yet is claimed before, by links named by their items.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import msgspec

from pyguixvm.model.applied import Generation
from pyguixvm.model.hypervisor import Hypervisor
from pyguixvm.model.image import SystemImage
from pyguixvm.model.volume_names import is_store_item

# What a generation with increments is made of, besides the image that it stands on.
_SYSTEM_SUFFIX = "-system"
# No name of a machine, which former places are named by.
_CLAIMS = "+new"
# Bytes.
_LONGEST_FILE_NAME = 255
# Of a hypervisor's name what people read, bytes.
_READABLE = 100


class Link(msgspec.Struct, frozen=True):
    """A link at PATH to ITEM, of OWNER, a machine, made at MADE (seconds since the epoch).

    OWNER is None for a claim.
    """

    path: Path
    item: str
    owner: str | None
    made: float

    @property
    def generation(self) -> int | None:
        """The number of the generation that it is for, None for a claim."""
        number = self.path.name.removesuffix(_SYSTEM_SUFFIX)
        return int(number) if self.owner is not None and number.isdecimal() else None


@dataclass(frozen=True)
class Roots:
    """The links for the machines of one hypervisor, in DIRECTORY.

    SCANNED: the collector looks there by itself.  FORMER are directories that held such links
    before: by machines' names, and by UUIDs where no better place was to be had.
    """

    directory: Path
    scanned: bool = True
    former: tuple[Path, ...] = ()

    def claim(self, item: str) -> Path:
        """Return the link that protects ITEM until a generation does."""
        return self.directory / _CLAIMS / PurePosixPath(item).name

    def of(self, machine: str, generation: Generation) -> dict[Path, str]:
        """Return the links for GENERATION of the machine with the UUID MACHINE, and their items."""
        items = {"": generation.image}
        image = generation.declaration.image
        content = image.content if isinstance(image, SystemImage) else None
        # In a guest that was changed in place, the system is on its own disk only.
        if content and generation.increment is not None and not generation.under:
            items[_SYSTEM_SUFFIX] = content.system.output
        return {
            self.directory / machine / f"{generation.number}{suffix}": item
            for suffix, item in items.items()
            if is_store_item(item)
        }

    def links(self) -> Iterator[Link]:
        """Yield all links that are there, those in former places last."""
        for directory in (self.directory, *self.former):
            for path in sorted(directory.glob("*/*")):
                owner = path.parent.name
                # Somebody else may be removing them, too.
                with suppress(OSError):
                    made = path.lstat().st_mtime
                    yield Link(
                        path, str(path.readlink()), None if owner == _CLAIMS else owner, made
                    )

    def protect(self, machine: str, generation: Generation) -> None:
        """Have the links for GENERATION of MACHINE protect what is claimed; that never fails."""
        if not self.scanned:
            return  # the collector would not know of them
        for path, item in self.of(machine, generation).items():
            if not leads_to(path, item) and leads_to(self.claim(item), item):
                # The claim protects it, too, until somebody finds this there already.
                with suppress(OSError):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    lead_to(path, item)

    @contextmanager
    def claiming(self) -> Iterator[None]:
        """Have nobody remove claims during the body.  Raises OSError if there is no place."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with self._locked(fcntl.LOCK_SH):
            yield

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Tell the body whether nobody else is `claiming`; nobody begins to meanwhile."""
        try:
            with self._locked(fcntl.LOCK_EX | fcntl.LOCK_NB):
                yield True
        except (BlockingIOError, FileNotFoundError):
            yield False

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        # The directory stays, empty or not: a lock on one that is gone locks nothing.
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, how)
            yield
        finally:
            os.close(descriptor)


def roots_for(
    hypervisor: Hypervisor, uri: str, environment: Mapping[str, str], state_directory: Path
) -> Roots:
    """Return the links for HYPERVISOR, which is reached by URI, of whoever runs this.

    Where Guix's daemon gives nobody a directory of their own, they are in STATE_DIRECTORY.
    """
    name = directory_name(hypervisor)
    mine = state_directory / "gc-roots"
    by_uri = mine / quote(uri, safe="")
    former = (by_uri,) if len(by_uri.name) <= _LONGEST_FILE_NAME else ()
    for place in _scanned(environment):
        if os.access(place, os.W_OK):
            return Roots(place / "pyguixvm" / name, former=(*former, mine / name))
    return Roots(mine / name, scanned=False, former=former)


def _scanned(environment: Mapping[str, str]) -> Iterator[Path]:
    """Yield directories of our own that the collector looks at, if they are there."""
    guix = Path(environment.get("GUIX_STATE_DIRECTORY") or "/var/guix")
    yield guix / "gcroots"
    with suppress(KeyError):  # a user without a name
        yield guix / "profiles/per-user" / pwd.getpwuid(os.geteuid()).pw_name


def directory_name(hypervisor: Hypervisor) -> str:
    """Return the file name for HYPERVISOR, which no other one has."""
    parts = [hypervisor.host_name, hypervisor.driver, hypervisor.instance, hypervisor.owner]
    words = (re.sub(r"\W+", "-", part or "").strip("-") for part in parts)
    readable = "-".join(filter(None, words))
    digest = hashlib.sha256(msgspec.json.encode(hypervisor)).hexdigest()[:16]
    return f"{readable.encode()[:_READABLE].decode(errors='ignore')}-{digest}"


def leads_to(link: Path, item: str) -> bool:
    """Whether LINK is a symbolic link to ITEM."""
    return link.is_symlink() and str(link.readlink()) == item


def remove(link: Path) -> None:
    """Remove LINK, and its directory if that is empty then."""
    link.unlink(missing_ok=True)
    with suppress(OSError):
        link.parent.rmdir()


def lead_to(link: Path, item: str) -> None:
    """Make LINK lead to ITEM, at no moment to nothing."""
    new = link.with_name(f".{link.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    new.symlink_to(item)
    new.replace(link)
