# SPDX-License-Identifier: GPL-3.0-or-later
"""Disk images by HTTP, known by their digests: what was cut goes on where it was.

Proxies are those of the environment, as for other programs (http_proxy, https_proxy, no_proxy).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import stat
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO

from pyguixvm.errors import PyguixvmError
from pyguixvm.events import Count, Emit, phase
from pyguixvm.interruption import LOOK_SECONDS, end_here_if_asked, pause
from pyguixvm.model.sizes import format_size, sizes_apart
from pyguixvm.sparse_file import flush

# How long (seconds) a server may say nothing, and how long until it is asked again.
_SILENCE = 30.0
_AGAIN = 1.0
# It is asked so many times in a row that next to nothing comes (bytes).
_TRIES = 5
_LITTLE = 64 * 1024
# So long (seconds) that may take: one that says a byte now and then would never end.
_PATIENCE = 60.0
_READ = 1024**2
_PART = ".part"
# Not everybody may have an image: who may fetch it is for its server to say.
_PRIVATE = 0o600
_QCOW2 = b"QFI\xfb"
_WHOLE, _PARTIAL, _BEYOND = 200, 206, 416
_RANGE = re.compile(r"bytes (\d{1,19})-.*")


class FetchError(PyguixvmError):
    """An image could not be fetched, or is not what it is declared to be."""

    status = 5


def fetch(url: str, digest: str, path: Path, emit: Emit, machine: str | None = None) -> None:
    """Have at PATH what URL leads to, if that has the SHA-256 DIGEST (hexadecimal).

    What is there already is read, and not fetched again.  Who else fetches it is waited for.
    EMIT is told for the sake of MACHINE.  Raises FetchError; what came is kept then, to go on
    from, unless it is something else.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + _PART)
    with _alone(path.with_name(path.name + ".lock")):
        if path.exists() and _digest(path) == digest:
            if stat.S_IMODE(path.stat().st_mode) != _PRIVATE:
                # Only then: whoever makes a root of it would take that for a change.
                path.chmod(_PRIVATE)
            return
        with phase(emit, "fetch", machine, detail=url) as result:
            begun = part.exists() and part.stat().st_size > 0
            _complete(url, part, emit, machine)
            found = _digest(part)
            if found != digest and begun:
                # What was there may be of another image that was at that place.
                part.unlink()
                _complete(url, part, emit, machine)
                found = _digest(part)
            if found != digest:
                part.unlink()
                raise FetchError(
                    f"what {url} leads to has the SHA-256 {found}, not {digest}",
                    hint="It was not used. If it was renewed there, and you trust who did that, "
                    "declare its new digest.",
                )
            flush(part)
            part.rename(path)
            result.detail = f"{format_size(path.stat().st_size)} from {url}"


def format_of(path: Path) -> str:
    """Return what the disk image PATH is, qcow2 or raw."""
    with path.open("rb") as file:
        return "qcow2" if file.read(len(_QCOW2)) == _QCOW2 else "raw"


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Be the only one in the body, of all processes here."""
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                pause(LOOK_SECONDS)
        yield


def _complete(url: str, part: Path, emit: Emit, machine: str | None) -> None:
    """Have all of what URL leads to in the file PART, from where that ends."""
    tries = 0
    with open(part, "ab", opener=_private) as file:
        os.fchmod(file.fileno(), _PRIVATE)
        while True:
            before = file.tell()
            try:
                _go_on(url, file, emit, machine)
            except ValueError as error:
                # Of where a server leads to, or a proxy is, which may be no address at all.
                raise _failed(url, error) from error
            except (OSError, HTTPException) as error:
                refused = isinstance(error, urllib.error.HTTPError) and error.code < 500  # noqa: PLR2004
                tries = 1 if file.tell() >= before + _LITTLE else tries + 1
                if refused or tries >= _TRIES:
                    raise _failed(url, error) from error
            else:
                return
            pause(_AGAIN)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, _PRIVATE)


def _failed(url: str, error: Exception) -> FetchError:
    why = getattr(error, "reason", None) or error
    return FetchError(
        f"cannot fetch {url}: {why}",
        hint="See whether that address is right, and reached from here (by a proxy, maybe: "
        "https_proxy). What came is kept, and the next run goes on from there.",
    )


def _go_on(url: str, file: BinaryIO, emit: Emit, machine: str | None) -> None:
    """Add to FILE what it lacks of what URL leads to; raises OSError if not all came."""
    there = file.tell()
    headers = {"User-Agent": "pyguixvm", "Accept-Encoding": "identity"}
    if there:
        headers["Range"] = f"bytes={there}-"
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 -- http(s) alone is declared
    try:
        answer = _opener().open(request, timeout=_SILENCE)
    except urllib.error.HTTPError as error:
        if error.code == _BEYOND and there:
            return  # all of it is there, or it is another one: the digest tells
        raise
    with answer:
        if answer.status not in {_WHOLE, _PARTIAL}:
            raise FetchError(
                f"{url} leads to no file: its server answers {answer.status}",
                hint="See whether that address is right.",
            )
        _require_begin(answer, file)
        # None: it does not say how much follows, or nonsense.
        total = None if answer.length is None else file.tell() + answer.length
        most = _room(file, total)
        count = Count(emit, "fetch", total or 0, machine)
        count.add(file.tell())
        pace = _Pace()
        while data := answer.read1(_READ):
            end_here_if_asked()
            pace.require(len(data))
            if file.tell() + len(data) > most:
                file.truncate(0)
                raise FetchError(
                    f"{url} does not end within {format_size(most)}, half of what is free here",
                    hint="Its server does not say how long it is. If it is as long as that, fetch "
                    "it by hand, and declare a local-image.",
                )
            file.write(data)
            count.add(len(data))
        file.flush()
    if total is not None and file.tell() < total:
        raise ConnectionError("the connection was cut")


def _opener() -> urllib.request.OpenerDirector:
    """Return what asks servers of HTTP, and follows to such alone.

    Not urllib's own, which knows the environment as it was at first.
    """
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    return opener


class _Pace:
    """Whether what comes would end some day."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._came = 0

    def require(self, came: int) -> None:
        """Raise ConnectionError if next to nothing CAME for too long."""
        self._came += came
        now = time.monotonic()
        if self._came >= _LITTLE:
            self._since, self._came = now, 0
        elif now - self._since > _PATIENCE:
            raise ConnectionError(f"{self._came} bytes came in {_PATIENCE:g} s")


def _require_begin(answer: HTTPResponse, file: BinaryIO) -> None:
    """Have FILE end where ANSWER begins."""
    found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    if answer.status != _PARTIAL or found is None or int(found[1]) != file.tell():
        # From its begin: that server knows no ranges.
        file.truncate(0)
        file.seek(0)


def _room(file: BinaryIO, total: int | None) -> int:
    """Return how long (bytes) FILE may become, which is to be TOTAL long, if that is known."""
    free = shutil.disk_usage(os.path.dirname(os.path.abspath(file.name))).free  # noqa: PTH120, PTH100
    if total is None:
        # Not all: others write there, too.
        return file.tell() + free // 2
    lacking = total - file.tell()
    if lacking > free:
        needed, there = sizes_apart(lacking, free)
        raise FetchError(
            f"{file.name} needs {needed} more, and {there} are free",
            hint="Free some space there, or let XDG_STATE_HOME be where there is more.",
        )
    return total


def _digest(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(_READ):
            end_here_if_asked()
            found.update(data)
    return found.hexdigest()
