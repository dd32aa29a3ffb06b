# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that a guest's agent runs, and files that it writes, for root in the guest.

See guest-exec and guest-file-open in QEMU's qga/qapi-schema.json.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import libvirt
import msgspec

from pyguixvm.hypervisor.guest import agent
from pyguixvm.hypervisor.time_limits import SilenceError

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 0.2
# So long an agent may be away that is started again, or its guest with it.
_AWAY_SECONDS = 60.0
# Larger ones are no faster, and one of 256 KiB never arrived (libvirt 9.0, QEMU 7.2).
_CHUNK = 64 * 1024
_NEEDED = frozenset({
    "guest-exec", "guest-exec-status",
    "guest-file-open", "guest-file-write", "guest-file-close",
})  # fmt: skip


class Ran(msgspec.Struct, frozen=True):
    """How a program ended: its exit STATUS, None if by a signal, and what it wrote."""

    status: int | None
    out: str
    err: str


class _Started(msgspec.Struct, frozen=True):
    pid: int


class _Status(msgspec.Struct, frozen=True, rename="kebab"):
    exited: bool
    exitcode: int | None = None
    out_data: str = ""
    err_data: str = ""


class _Command(msgspec.Struct, frozen=True):
    name: str
    enabled: bool


class _Info(msgspec.Struct, frozen=True):
    supported_commands: tuple[_Command, ...]


class _Written(msgspec.Struct, frozen=True):
    count: int


def offered(domain: libvirt.virDomain) -> bool:
    """Whether the agent of DOMAIN runs programs and writes files, which one may be forbidden."""
    if not agent.connected(domain, agent.PATIENCE):
        return False
    info = agent.ask(domain, "guest-info", _Info, agent.PATIENCE)
    allowed = {each.name for each in info.supported_commands if each.enabled} if info else set()
    return allowed >= _NEEDED


def run(  # noqa: PLR0917 -- what, with what, and for how long
    domain: libvirt.virDomain,
    path: str,
    arguments: Sequence[str],
    patience: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
    *,
    answer: int = agent.PATIENCE,
    meanwhile: Callable[[], object] = lambda: None,
) -> Ran | None:
    """Have the guest of DOMAIN run PATH with ARGUMENTS; return how that ended.

    None if that is not known: it goes on after PATIENCE, its guest is off or has booted anew,
    its agent, or the line to it, stays away, or it does not say; each of its answers has ANSWER
    (all seconds).  MEANWHILE is called again and again.
    """
    started: _Started | None = None
    with suppress(SilenceError):
        started = agent.ask(
            domain,
            "guest-exec",
            _Started,
            answer,
            path=path,
            arg=list(arguments),
            **{"capture-output": True},
        )
    heard = clock()
    deadline = heard + patience
    pause = _FIRST_PAUSE
    while started is not None and clock() < deadline:
        sleep(pause)
        meanwhile()
        pause = min(2 * pause, _LONGEST_PAUSE)
        # The line may be what fails, and be there again before the program ends.
        with suppress(libvirt.libvirtError, SilenceError):
            status = _status(domain, started.pid, answer)
            if status is None and agent.ask(domain, "guest-ping", msgspec.Raw, answer) is not None:
                # One that says nothing may have been busy, or about to start.
                status = _status(domain, started.pid, answer)
                if status is None:
                    return None
            # How one has ended, it says once.
            if status is not None and status.exited:
                return Ran(status.exitcode, _text(status.out_data), _text(status.err_data))
            if status is not None:
                heard = clock()
            elif not domain.isActive():
                return None
        if clock() - heard > _AWAY_SECONDS and not _is_connected(domain, answer):
            return None
    return None


def _status(domain: libvirt.virDomain, pid: int, answer: int) -> _Status | None:
    return agent.ask(domain, "guest-exec-status", _Status, answer, pid=pid)


def _is_connected(domain: libvirt.virDomain, answer: int) -> bool:
    with suppress(SilenceError):
        return agent.connected(domain, answer)
    return False


def _text(data: str) -> str:
    try:
        return base64.b64decode(data).decode(errors="replace")
    except ValueError:
        return ""


def write(domain: libvirt.virDomain, path: str, source: Path) -> bool:
    """Have the guest of DOMAIN write what the file SOURCE holds to PATH; whether it did."""
    handle = agent.ask(domain, "guest-file-open", int, agent.PATIENCE, path=path, mode="w")
    if handle is None:
        return False
    try:
        with source.open("rb") as file:
            return all(
                _written(domain, handle, chunk) for chunk in iter(lambda: file.read(_CHUNK), b"")
            )
    finally:
        agent.ask(domain, "guest-file-close", msgspec.Raw, agent.PATIENCE, handle=handle)


def _written(domain: libvirt.virDomain, handle: int, chunk: bytes) -> bool:
    data = base64.b64encode(chunk).decode()
    written = agent.ask(
        domain, "guest-file-write", _Written, agent.PATIENCE, handle=handle, **{"buf-b64": data}
    )
    return written is not None and written.count == len(chunk)
