# SPDX-License-Identifier: GPL-3.0-or-later
"""Images by HTTP that the host of a hypervisor fetches itself, by its own shell and proxies."""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from urllib.parse import quote

import msgspec

from pyguixvm.hypervisor.host_shell import Heard, NotWrittenError, program, said, script

# What may stand in an address as it is, where others read it: neither ends it, nor escapes.
_PLAIN = "".join(set(string.punctuation) - set("\"'\\<>^`{|}"))
# What fetches, the first one that is there.
_PROGRAMS = ("curl", "wget")
_DIGEST = re.compile(r"([0-9a-f]{64}) .*")


class Origin(msgspec.Struct, frozen=True):
    """Where an image is from: URL leads to what has the digest SHA256 (hexadecimal)."""

    url: str
    sha256: str


def fetch(  # noqa: PLR0917 -- what from where to where, and who is told
    uri: str, path: str, size: int, origin: Origin, start: int, tell: Callable[[int], None]
) -> None:
    """Have the host of URI complete its file PATH, of SIZE bytes, with what ORIGIN leads to.

    What comes before START is there already.  TELL is told how many bytes it takes by now.
    Returns when all of it has the digest; raises NotWrittenError.
    """
    heard = Heard(tell)
    values = {
        "program": program(uri, _PROGRAMS),
        "url": quote(origin.url, safe=_PLAIN),
        "file": path,
        "size": size,
        "start": start,
    }
    digest = _DIGEST.fullmatch(said(uri, script("fetch.sh", values).encode(), heard))
    if digest is None:
        raise NotWrittenError(heard.last or "its shell does not do as it is told")
    if digest[1] != origin.sha256:
        raise NotWrittenError(
            f"what it gets there has the SHA-256 {digest[1]}, not {origin.sha256}", another=True
        )
