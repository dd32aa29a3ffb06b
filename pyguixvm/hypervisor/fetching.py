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
# What fetches, the first one that is there.
_PROGRAMS = ("curl", "wget")
# So long (seconds) a shell may take to say whether it has one.
_PATIENCE = 30.0
_AT = re.compile(r"at (\d{1,19})")
_DIGEST = re.compile(r"([0-9a-f]{64}) .*")
# So much (bytes) of what it says is looked at.
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
    heard = _Heard(tell)
    values = {
        "program": _program(uri),
        "url": quote(origin.url, safe=_PLAIN),
        "file": path,
        "size": size,
        "start": start,
    }
    given = "".join(f"{name}={shlex.quote(str(value))}\n" for name, value in values.items())
    script = resources.files("pyguixvm.hypervisor").joinpath("fetch.sh").read_text()
    said = _said(uri, f"{given}{script}", heard)
    digest = _DIGEST.fullmatch(said)
    if digest is None:
        raise NotFetchedError(heard.last or "its shell does not do as it is told")
    if digest[1] != origin.sha256:
        raise NotFetchedError(
            f"what it gets there has the SHA-256 {digest[1]}, not {origin.sha256}", another=True
        )


class _Heard:
    """Takes lines: how much there is by now, which TELL is told, and what went wrong LAST."""

    def __init__(self, tell: Callable[[int], None]) -> None:
        self.last = ""
        self._tell = tell

    def take(self, line: str) -> None:
        if found := _AT.fullmatch(line):
            self._tell(int(found[1]))
        elif line.strip():
            self.last = line.strip()


def _program(uri: str) -> str:
    """Return what the host of URI fetches with.

    Who has another program than a shell at its end of the line has it do nothing yet.
    """
    asking = " || ".join(f"command -v {each}" for each in _PROGRAMS)
    heard = _Heard(lambda _: None)
    said = _said(uri, f"{asking} || echo none\n", heard, _PATIENCE)
    found = said.rpartition("/")[2]
    if found in _PROGRAMS:
        return found
    if found == "none":
        raise NotFetchedError(f"there is neither {' nor '.join(_PROGRAMS)}")
    raise NotFetchedError(heard.last or "it has no shell for us")


def _said(uri: str, script: str, heard: _Heard, timeout: float | None = None) -> str:
    """Return what the shell of the host of URI says to SCRIPT; raises NotFetchedError."""
    command = shell(uri, "sh -s")
    if command is None:
        raise NotFetchedError("it has no shell for us")
    try:
        done = process.run(
            command,
            stdin=script.encode(),
            timeout=timeout,
            most=_MOST_SAID,
            on_error_line=heard.take,
            check=False,
        )
    except (process.MissingProgramError, process.CommandTimeoutError) as error:
        raise NotFetchedError(error.message) from error
    if done.status != 0:
        raise NotFetchedError(heard.last or process.describe_status(done.status))
    return done.text
