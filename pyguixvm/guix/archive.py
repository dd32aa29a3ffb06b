# SPDX-License-Identifier: GPL-3.0-or-later
"""Store items for another store, as ``guix copy`` sends them: an archive that ours signs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

from pyguixvm import process
from pyguixvm.errors import BuildError
from pyguixvm.guix.command import find_guix
from pyguixvm.pipes import written

_READ = 256 * 1024


def public_key(environment: Mapping[str, str]) -> bytes | None:
    """Return the key that tells what this machine's store signed; None where that is not known."""
    directory = Path(environment.get("GUIX_CONFIGURATION_DIRECTORY") or "/etc/guix")
    with suppress(OSError):
        return (directory / "signing-key.pub").read_bytes()
    return None


def export(
    environment: Mapping[str, str],
    items: Collection[str],
    output: IO[bytes],
    tell: Callable[[int], object] = lambda _written: None,
) -> None:
    """Write ITEMS of this machine's store to OUTPUT, each after those that it refers to.

    TELL is told how many bytes were written, time after time.  Raises BuildError.
    """
    argv = [str(find_guix(environment)), "archive", "--export", *items]

    def run(pipe: IO[bytes]) -> None:
        try:
            process.run(argv, stdout=pipe, environment=environment)
        except process.CommandFailedError as error:
            raise BuildError(
                f"guix cannot export store items: {error.stderr.strip()}",
                hint="If this machine has no key to sign them by, 'guix archive --generate-key', "
                "as root, makes one.",
            ) from error

    with written(run) as source:
        while piece := source.read1(_READ):  # type: ignore[attr-defined]
            output.write(piece)
            tell(len(piece))
