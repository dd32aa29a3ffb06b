# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands as people are told to type them: hints name them, and are told by `reaching`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import overload

from pyguixvm.errors import PyguixvmError

# The verbs that ask the hypervisor of -c, whatever a configuration declares.
ASKING = frozenset({
    "status", "generations", "rollback", "gc", "volumes", "list", "start", "ssh", "cp", "console",
    "shutdown", "reboot", "destroy", "autostart", "undefine",
})  # fmt: skip
# Those that ask it for machines that name none.
DECLARING = frozenset({
    "check", "plan", "build", "deploy", "watch", "xml", "exporter", "migrate", "evacuate", "graph",
    "repl",
})  # fmt: skip
# "virsh for that domain" is none, and "virsh list" is asked of several hosts.
_VIRSH = r"virsh (?!for |list\b)(?=[a-z])"
_OF_ITS_HYPERVISOR = re.compile(rf"\b({_VIRSH}|pyguixvm (?=(?:{'|'.join(ASKING)})\b))")
_OF_ANY = re.compile(rf"\b({_VIRSH}|pyguixvm (?=(?:{'|'.join(ASKING | DECLARING)})\b))")


def words(*names: str) -> str:
    """Return NAMES, which may be anything, as arguments that a shell and a command take as such.

    >>> words("web", "before the update"), words("-x")
    ("web 'before the update'", '-- -x')
    """
    options = any(name.startswith("-") for name in names)
    return shlex.join(("--", *names) if options else names)


def vol_delete(pool: str, name: str) -> str:
    """Return what virsh takes to delete volume NAME of POOL.

    >>> vol_delete("my pool", "disk.img")
    "vol-delete --pool 'my pool' disk.img"
    """
    return f"vol-delete --pool {shlex.quote(pool)} {words(name)}"


@overload
def reaching(text: str, given: str | None, declared: str | None = None) -> str: ...
@overload
def reaching(text: None, given: str | None, declared: str | None = None) -> None: ...


def reaching(text: str | None, given: str | None, declared: str | None = None) -> str | None:
    """Return TEXT with commands that ask the hypervisor which the one that says it asked.

    GIVEN is the URI that this was given by -c, and DECLARED what the machine in question
    declares; None where there is none.

    >>> reaching("'virsh resume web', and deploy again: pyguixvm deploy", None, "test:///x")
    "'virsh -c test:///x resume web', and deploy again: pyguixvm deploy"
    """
    if text is not None and declared is not None:
        text = _asked(_OF_ITS_HYPERVISOR, declared, text)
    if text is not None and given is not None:
        text = _asked(_OF_ANY, given, text)
    return text


@contextmanager
def mended_at(uri: str) -> Iterator[None]:
    """Have the hints of what the body raises ask the hypervisor at URI."""
    try:
        yield
    except PyguixvmError as error:
        error.hint = reaching(error.hint, None, uri)
        raise


def _asked(commands: re.Pattern[str], uri: str, text: str) -> str:
    asking = f"-c {shlex.quote(uri)} "
    return commands.sub(lambda found: f"{found[0]}{asking}", text)
