# SPDX-License-Identifier: GPL-3.0-or-later
"""The Guix of a hypervisor's host, behind ssh: what its store lacks, and composing images of it.

It evaluates, by ``guix repl``, a module that is sent there, as ``guix copy`` has it done;
nothing of ours has to be installed.
"""

from __future__ import annotations

import errno
import os
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pyguixvm import process
from pyguixvm.errors import HypervisorError
from pyguixvm.hypervisor.shell import shell
from pyguixvm.model.transfer import Lacking
from pyguixvm.pipes import written
from pyguixvm.printable import printable

# How long it may take (seconds) to tell what is there, where that asks for substitutes, too, and
# to fetch and write an image.
_ASK_SECONDS = 120.0
_COMPOSE_SECONDS = 6 * 3600.0
# What it may say (bytes): a line for each item of a large system, and more.
_MOST = 16 * 1024**2
_WORD = "pyguixvm "
# Where a shell that is no login shell does not look, on Guix System and elsewhere.
_PATH = ":".join(
    [
        "$HOME/.config/guix/current/bin",
        "$PATH",
        "/run/current-system/profile/bin",
        "/usr/local/bin",
    ]
)
_START = (
    f'PATH="{_PATH}"; '
    f'command -v guix > /dev/null || {{ echo "{_WORD}none"; exit; }}; '
    "exec guix repl -t machine"
)
# What the daemon there says of an archive that is signed by a key it does not trust.
_UNAUTHORIZED = "unauthorized public key"
_ROOM = "Free some space there: in the pool, or in /gnu/store, for which 'guix gc' is."


class FarGuixError(HypervisorError):
    """The Guix there cannot be asked, or does not do what it was asked for; it says why."""


class UnauthorizedError(FarGuixError):
    """The Guix there takes no store items from here."""

    def __init__(self) -> None:
        """Say what helps."""
        super().__init__(
            "the Guix of its host takes no store items from here, whose key it does not know",
            hint="Have 'guix archive --authorize', run by root there, read what is in "
            "/etc/guix/signing-key.pub here.",
        )


@dataclass(frozen=True)
class FarGuix:
    """The Guix at the host of URI, which is asked by the module in the file PROGRAM.

    KEY is what store items from here are signed by, None where that is not known.
    """

    uri: str
    program: Path
    key: bytes | None = None

    def lacking(self, items: Iterable[str], directory: str) -> Lacking:
        """Return what of ITEMS is not there; files in DIRECTORY are to be written there.

        Raises UnauthorizedError if what would be sent is not taken there, and FarGuixError.
        """

        def give(pipe: IO[bytes]) -> None:
            pipe.write("".join(f"{item}\n" for item in items).encode() + b"\n")
            pipe.write(self.key or b"")

        call = f"(tell-lacking {_quoted(directory)})"
        missing: set[str] = set()
        fetched: dict[str, int] = {}
        known = True
        for kind, what in self._ask(call, give, _ASK_SECONDS):
            match kind, what.split():
                case "closed", _:
                    raise FarGuixError(f"its login may not write to {directory}")
                case "unknown-key", _:
                    known = False
                case "lacks", [item]:
                    missing.add(item)
                case "fetches", [item, size] if size.isdecimal():
                    fetched[item] = int(size)
        found = Lacking(frozenset(missing), {item: fetched[item] for item in missing & {*fetched}})
        if found.sent and not known:
            raise UnauthorizedError
        return found

    def compose(self, file: str, give: Callable[[IO[bytes]], None]) -> None:
        """Have FILE there, which is all zeros, hold what GIVE writes the recipe of.

        Raises UnauthorizedError, and FarGuixError.
        """
        self._ask(f"(compose {_quoted(file)})", give, _COMPOSE_SECONDS)

    def _ask(
        self, call: str, give: Callable[[IO[bytes]], None], seconds: float
    ) -> list[tuple[str, str]]:
        """Return what is answered to CALL, which reads what GIVE writes: kind and rest of each."""
        command = shell(self.uri, f"exec sh -c {shlex.quote(_START)}")
        if command is None:
            raise FarGuixError("no shell of its host is known: its URI is not 'qemu+ssh://…'")
        # Text, and the tables of file systems, are a fraction of it then.
        command.insert(1, "-C")

        def write(pipe: IO[bytes]) -> None:
            pipe.write(self.program.read_bytes() + f"{call}\n".encode())
            give(pipe)

        with written(write) as source:
            try:
                ran = process.run(command, stdin=source, timeout=seconds, most=_MOST, check=False)
            except (process.CommandTimeoutError, process.MissingProgramError) as error:
                raise FarGuixError(f"its host does not answer: {error.message}") from error
            return _understood(ran)


def _understood(ran: process.Completed) -> list[tuple[str, str]]:
    """Return what RAN answered.  Raises FarGuixError unless all is done."""
    lines = ran.stdout.decode(errors="replace").splitlines()
    answers = [line.removeprefix(_WORD) for line in lines if line.startswith(_WORD)]
    found = [(kind, what) for kind, _, what in (each.partition(" ") for each in answers)]
    kind, what = found[-1] if found else ("", "")
    match kind:
        case "done":
            return found
        case "none":
            raise FarGuixError("there is no guix on its host")
        case "refused" if _UNAUTHORIZED in what:
            raise UnauthorizedError
        case "refused" | "failed":
            hint = _ROOM if os.strerror(errno.ENOSPC) in what else None
            raise FarGuixError(f"the Guix of its host says: {printable(what)}", hint=hint)
    said = ran.stderr.decode(errors="replace").strip().splitlines()
    why = said[-1] if said else process.describe_status(ran.status)
    raise FarGuixError(f"the Guix of its host does not answer: {printable(why)}")


def _quoted(text: str) -> str:
    """Return TEXT as Scheme reads it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
