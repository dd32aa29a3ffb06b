# SPDX-License-Identifier: GPL-3.0-or-later
"""Having a running guest switch to another system.

In place that is done by Guix's own deployment, the ``managed-host-environment-type`` of its
(gnu machine ssh), which "Invoking guix deploy" in its manual describes.  What a guest is to
run live is built here, and it takes its agent alone to have it do so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import msgspec

from pyguixvm.errors import BuildError
from pyguixvm.events import Emit
from pyguixvm.guix.building import Answer, work
from pyguixvm.guix.configuration import Configuration, asked_for
from pyguixvm.guix.request import Exchange
from pyguixvm.model.store_item import StoreItem

# A build takes what it takes, and so do slow lines.
_SECONDS = 30 * 24 * 3600.0


class _Activated(Answer):
    prepared: bool = False
    activated: bool = False
    restart: bool = False
    kernel_loaded: bool = msgspec.field(name="kernel-loaded", default=False)


class _Live(Answer):
    program: str = ""
    system: str = ""
    closure: tuple[str, ...] = ()
    items: tuple[StoreItem, ...] = ()


class BootWanted(msgspec.Struct, frozen=True):
    """A guest booted by another kernel, initial RAM disk or arguments than its system boots by.

    KERNEL_LOADED: its kernel has taken these, for kexec(8).
    """

    kernel_loaded: bool


class LiveSystem(msgspec.Struct, frozen=True):
    """A system that a guest is to run, and the PROGRAM that has it do so: store items.

    CLOSURE is all that both refer to, and ITEMS what of that the guest lacks, as far as that
    is known.
    """

    program: str
    system: str
    closure: tuple[str, ...]
    items: tuple[StoreItem, ...]


class Target(msgspec.Struct, frozen=True):
    """A guest of MACHINE that has, as far as that is known, the system KNOWN, a store item.

    It has what was delivered with the PROGRAM that switched it to that, too.
    SYSTEM and ROOT_UUID are as for a `Host`.
    """

    machine: str
    system: str
    root_uuid: str
    known: str | None
    program: str | None = None


class Host(msgspec.Struct, frozen=True):
    """A guest that root can log in to at ADDRESS, and what it is to run.

    HOST_KEY is its public ssh host key, None to trust in known_hosts, and UUID that of its
    domain.  SYSTEM is the derivation of the declared operating system of MACHINE, and
    ROOT_UUID what the root file system is found by that is on the guest's disk.
    """

    machine: str
    address: str
    host_key: str | None
    system: str
    root_uuid: str
    uuid: str


@dataclass(frozen=True)
class Activation:
    """Changes guests to what CONFIG declares, through the Guix that EXCHANGE reaches.

    SHARING is how their hypervisor shares directories.  EMIT takes what Guix writes.
    """

    exchange: Callable[[], Exchange]
    config: Configuration
    sharing: Literal["virtiofs", "9p"]
    emit: Emit

    def prepare(self, host: Host) -> None:
        """Build what `activate` needs and see that HOST lets us in; nothing changes there.

        Raises BuildError.
        """
        self._ask("prepare-activation", host)

    def activate(self, host: Host) -> BootWanted | None:
        """Have HOST run its system; return what is wanted if it was booted by other things.

        Raises HalfDoneError if it may be anything in between, and BuildError if it was
        not begun.
        """
        done = self._ask("activate", host)
        return BootWanted(done.kernel_loaded) if done.restart else None

    def prepare_live(self, target: Target) -> LiveSystem:
        """Build what the guest of TARGET is to run; return it.  Raises BuildError."""
        request = {**self._request(target), "known": target.known, "program": target.program}
        made = work(self.exchange(), self.emit, "prepare-live", request, _Live, _SECONDS)
        return LiveSystem(made.program, made.system, made.closure, made.items)

    def _request(self, what: Host | Target) -> dict[str, object]:
        return {
            "config": asked_for(self.config),
            "sharing": self.sharing,
            "machine": what.machine,
            "system": what.system,
            "root-uuid": what.root_uuid,
        }

    def _ask(self, command: str, host: Host) -> _Activated:
        request = {
            **self._request(host),
            "address": host.address,
            "host-key": host.host_key,
            "uuid": host.uuid,
        }
        try:
            return work(self.exchange(), self.emit, command, request, _Activated, _SECONDS)
        except BuildError as error:
            error.hint = error.hint or _hint(error.message, host.machine)
            if error.log is None:
                # No build failed: what Guix said before is beside the point.
                error.tail = ()
            raise


def _hint(message: str, machine: str) -> str | None:
    """Return what to do about MESSAGE, an error at MACHINE: of the Scheme side, or of Guile's.

    These are in no language but English; what Guix says comes with its hint.
    """
    hints: Iterable[tuple[str, str]] = (
        (
            "no Guix at work",
            "Have the guest's operating-system run guix-service-type, or deploy without "
            "--strategy in-place, which takes a boot.",
        ),
        (
            "nothing is mounted at",
            "Add that to the file-systems of the operating-system, for instance (file-system "
            '(mount-point "/boot/efi") (device (file-system-label "GNU-ESP")) (type "vfat")), '
            "and deploy once without --strategy in-place.",
        ),
        (
            "is not the guest of",
            "Another host has that address, or the guest told a wrong one.  Connect it to a "
            "network of libvirt's, whose leases tell; see what it says: pyguixvm console "
            f"{machine}",
        ),
        ("no signing key", "Run as root, once: guix archive --generate-key"),
        (
            "would not trust",
            "Add it to the 'authorized-keys' of the guix-configuration in the declared "
            'operating-system, as "Invoking guix deploy" in Guix\'s manual shows: '
            '(local-file "/etc/guix/signing-key.pub").',
        ),
        ("no code for module (ssh", "Install Guile-SSH (Guix: guile-ssh; Debian: guile-ssh)."),
    )
    return next((hint for text, hint in hints if text in message), None)
