# SPDX-License-Identifier: GPL-3.0-or-later
"""Images by HTTP that the host of a hypervisor fetches itself, by its own shell and proxies."""

from __future__ import annotations

import re
import shlex
import string
from collections.abc import Callable
from importlib import resources
from urllib.parse import quote

import msgspec

from pyguixvm import process
from pyguixvm.errors import PyguixvmError
from pyguixvm.hypervisor.shell import shell

# What may stand in an address as it is, where others read it: neither ends it, nor escapes.
_PLAIN = "".join(set(string.punctuation) - set("\"'\\<>^`{|}"))
_AT = re.compile(r"at (\d{1,19})")
# So much (bytes) of what went wrong there is looked at.
_MOST_SAID = 64 * 1024


class Origin(msgspec.Struct, frozen=True):
    """Where an image is from: URL leads to what has the digest SHA256 (hexadecimal)."""

    url: str
    sha256: str


class NotFetchedError(PyguixvmError):
    """The host of a hypervisor did not fetch an image, or it is ANOTHER one than declared."""

    def __init__(self, why: str, *, another: bool = False) -> None:
        """Say WHY."""
        super().__init__(why)
        self.another = another


def fetch(  # noqa: PLR0917 -- what from where to where, and who is told
    uri: str, path: str, size: int, origin: Origin, start: int, tell: Callable[[int], None]
) -> None:
    """Have the host of URI complete its file PATH, of SIZE bytes, with what ORIGIN leads to.

    What comes before START is there already.  TELL is told how many bytes it takes by now.
    Returns when all of it has the digest; raises NotFetchedError.
    """
    command = shell(uri, "sh -s")
    if command is None:
        raise NotFetchedError("it has no shell for us")
    said: list[str] = []

    def heard(line: str) -> None:
        if found := _AT.fullmatch(line):
            tell(int(found[1]))
        elif line.strip():
            said.append(line.strip())

    values = {"url": quote(origin.url, safe=_PLAIN), "file": path, "size": size, "start": start}
    given = "".join(f"{name}={shlex.quote(str(value))}\n" for name, value in values.items())
    script = resources.files("pyguixvm.hypervisor").joinpath("fetch.sh").read_text()
    try:
        done = process.run(
            command,
            stdin=f"{given}{script}".encode(),
            most=_MOST_SAID,
            on_error_line=heard,
            check=False,
        )
    except process.MissingProgramError as error:
        raise NotFetchedError(error.message) from error
    if done.status != 0:
        raise NotFetchedError(said[-1] if said else process.describe_status(done.status))
    digest = done.text.partition(" ")[0]
    if digest != origin.sha256:
        raise NotFetchedError(
            f"what it gets there has the SHA-256 {digest}, not {origin.sha256}", another=True
        )
