# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the evaluator that stays can be reached, and starting it.

Each evaluator has a socket named by a digest of all that it was started with:
another Guix, environment or version of ours has another socket.  Whether files have
changed that it has loaded it sees itself.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from pyguixvm.daemon import detach
from pyguixvm.errors import EvaluationError, RequestRefusedError
from pyguixvm.guix.command import guix_identity, identity, scheme_directory
from pyguixvm.model.declaration import SCHEMA
from pyguixvm.process import CommandFailedError, CommandTimeoutError
from pyguixvm.whose import is_mine, safe

_SCRIPT = Path(__file__).with_name("evaluator-main.scm")

# Read by Guix and Guile when their modules load, so that a running process has them for good.
_PREFIXES = ("GUIX_", "GUILE_")
# What they make of others, guix/pyguixvm/evaluator/environment.scm sets anew.
_VARIABLES = frozenset({"HOME", "NIX_STORE_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"})
# Of these, what each request brings along, and what says only which profile is used, as
# 'guix shell' does for each of its own.
_OF_REQUESTS = frozenset(
    {
        "GUILE_LOAD_COMPILED_PATH",
        "GUILE_LOAD_PATH",
        "GUIX_BUILD_OPTIONS",
        "GUIX_ENVIRONMENT",
        "GUIX_EXTENSIONS_PATH",
        "GUIX_LOCPATH",
        "GUIX_PROFILE",
        "GUIX_PYTHONPATH",
    }
)

# unix(7): 108 bytes with the final zero; the evaluator adds its process id while it starts.
_LONGEST_ADDRESS = 107 - len(".4194304")

# Seconds that Guix may take to load, with nothing in the disk cache.
_START_DEADLINE = 180.0
_IDLE_SECONDS = 1800
# What Guix's modules take, once they are loaded: with less, Guile looks for garbage again and
# again while it loads, and finds next to none.
_HEAP = {"GC_INITIAL_HEAP_SIZE": "128M"}


class Setting(msgspec.Struct, frozen=True):
    """All that identifies an evaluator."""

    guix: Path
    environment: Mapping[str, str]

    def command(self, *arguments: str) -> list[str]:
        """Return the command that runs the evaluator's script with ARGUMENTS."""
        script = [str(_SCRIPT), str(scheme_directory())]
        return [str(self.guix), "repl", "--", *script, *arguments]

    @property
    def kept_environment(self) -> dict[str, str]:
        """The environment of an evaluator that stays, without what requests bring along."""
        return {name: value for name, value in self.environment.items() if name not in _OF_REQUESTS}

    def digest(self) -> str:
        """Return what changes with anything that an evaluator keeps."""
        ours = scheme_directory().rglob("*.scm")
        relevant = {
            name: value
            for name, value in self.kept_environment.items()
            if name in _VARIABLES or name.startswith(_PREFIXES)
        }
        facts = [
            str(SCHEMA),
            guix_identity(self.guix),
            *map(identity, (_SCRIPT, *sorted(ours))),
            *(f"{name}={value}" for name, value in sorted(relevant.items())),
            # As Guix finds out whose profiles it takes.
            self.environment.get("USER") or self.environment.get("LOGNAME") or "",
        ]
        return hashlib.sha256("\0".join(facts).encode(errors="surrogateescape")).hexdigest()[:24]


def runtime_directory(environment: Mapping[str, str]) -> Path:
    """Return a directory for sockets that is ours alone, made if missing.

    Raises RequestRefusedError if somebody else could write to it.
    """
    given = environment.get("XDG_RUNTIME_DIR")
    own = safe(Path(given)) if given else None
    if own is not None and is_mine(own):
        directory = own / "pyguixvm"
        name_size = len(os.fsencode(directory / f"{'0' * 24}.socket"))
        if name_size <= _LONGEST_ADDRESS:
            with suppress(OSError):
                return _private(directory)
    return _private(Path("/tmp") / f"pyguixvm-{os.getuid()}")  # noqa: S108 -- verified


def _private(directory: Path) -> Path:
    directory.mkdir(mode=0o700, exist_ok=True)
    status = directory.lstat()
    if (
        not stat.S_ISDIR(status.st_mode)
        or status.st_uid != os.getuid()
        or stat.S_IMODE(status.st_mode) & 0o077
    ):
        raise RequestRefusedError(
            f"{directory} is not a directory that only you can use",
            hint="Remove it, or set XDG_RUNTIME_DIR to a directory of yours.",
        )
    return directory


def connect(setting: Setting, directory: Path) -> socket.socket:
    """Return a connection to the evaluator for SETTING, which is started if none runs.

    Raises EvaluationError if it does not start.
    """
    address = directory / f"{setting.digest()}.socket"
    connection = _try_connect(address)
    if connection is not None:
        return connection
    with (directory / f"{address.stem}.lock").open("w") as lock:
        # Of several commands at once, the first one starts it for all.
        fcntl.flock(lock, fcntl.LOCK_EX)
        connection = _try_connect(address)
        if connection is None:
            _start(setting, address)
            connection = _try_connect(address)
    if connection is None:
        raise EvaluationError(
            f"the evaluator started but cannot be reached at {address}",
            hint=f"Its log is {address.with_suffix('.log')}.",
        )
    return connection


def _try_connect(address: Path) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(address))
    except (FileNotFoundError, ConnectionError):
        # None ever ran, or one that crashed left its socket behind; the next replaces it.
        connection.close()
        return None
    except BaseException:
        connection.close()
        raise
    return connection


def _start(setting: Setting, address: Path) -> None:
    log = address.with_suffix(".log")
    log.write_bytes(b"")
    options = ["--log", str(log), "--idle", str(_IDLE_SECONDS)]
    try:
        detach(
            setting.command(str(address), *options),
            environment=_HEAP | setting.kept_environment,
            log=log,
            deadline=_START_DEADLINE,
        )
    except (CommandFailedError, CommandTimeoutError) as error:
        raise EvaluationError(
            f"the evaluator does not start: {error.message}",
            hint="Does 'guix repl' work?  PYGUIXVM_EVALUATOR=off does without it.",
        ) from error
