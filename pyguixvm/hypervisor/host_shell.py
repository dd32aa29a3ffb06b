# SPDX-License-Identifier: GPL-3.0-or-later
"""Scripts of ours that the shell of a hypervisor's host runs, to write into its volumes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import IO

from pyguixvm import process
from pyguixvm.errors import PyguixvmError
from pyguixvm.hypervisor.shell import shell

# So long (seconds) a shell may take to say whether it has a program.
PATIENCE = 30.0
# So much (bytes) of what it says is looked at.
_MOST_SAID = 64 * 1024
_AT = re.compile(r"at (\d{1,19})")


class NotWrittenError(PyguixvmError):
    """The host of a hypervisor did not write an image, or it is ANOTHER one than it was to be."""

    def __init__(self, why: str, *, another: bool = False) -> None:
        """Say WHY."""
        super().__init__(why)
        self.another = another


class Heard:
    """Takes lines: how much there is by now, which TELL is told, and what went wrong LAST."""

    def __init__(self, tell: Callable[[int], None]) -> None:
        """Nothing was heard yet."""
        self.last = ""
        self._tell = tell

    def take(self, line: str) -> None:
        """Take LINE of what it writes to standard error."""
        if found := _AT.fullmatch(line):
            self._tell(int(found[1]))
        elif line.strip():
            self.last = line.strip()


def script(name: str, values: Mapping[str, object]) -> str:
    """Return the script NAME with VALUES as its variables."""
    given = "".join(f"{key}={shlex.quote(str(value))}\n" for key, value in values.items())
    return given + resources.files("pyguixvm.hypervisor").joinpath(name).read_text()


def program(uri: str, names: Sequence[str]) -> str:
    """Return the first of the programs NAMES that the host of URI has.

    Who has another program than a shell at its end of the line has it do nothing yet.  Raises
    NotWrittenError if it has none of them, or no shell for us.
    """
    asking = " || ".join(f"command -v {each}" for each in names)
    heard = Heard(lambda _: None)
    found = said(uri, f"{asking} || echo none\n".encode(), heard, PATIENCE).rpartition("/")[2]
    if found in names:
        return found
    if found == "none":
        neither = "there is neither " if len(names) > 1 else "there is no "
        raise NotWrittenError(neither + " nor ".join(names))
    raise NotWrittenError(heard.last or "it has no shell for us")


def said(
    uri: str,
    given: bytes | IO[bytes],
    heard: Heard,
    timeout: float | None = None,
    command: str = "sh -s",
) -> str:
    """Return what the shell of the host of URI says to what is GIVEN, within TIMEOUT (seconds).

    COMMAND reads that; what it writes to standard error is HEARD.  Raises NotWrittenError.
    """
    argv = shell(uri, command)
    if argv is None:
        raise NotWrittenError("it has no shell for us")
    try:
        done = process.run(
            argv,
            stdin=given,
            timeout=timeout,
            most=_MOST_SAID,
            on_error_line=heard.take,
            check=False,
        )
    except (process.MissingProgramError, process.CommandTimeoutError) as error:
        raise NotWrittenError(error.message) from error
    if done.status != 0:
        raise NotWrittenError(heard.last or process.describe_status(done.status))
    return done.text
