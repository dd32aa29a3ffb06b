# SPDX-License-Identifier: GPL-3.0-or-later
"""Building derivations with Guix itself, and keeping what they lead to."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pyguixvm.errors import BuildError
from pyguixvm.events import BuildOutput, Emit
from pyguixvm.process import CommandFailedError, run

_TAIL = 20
_LOG = re.compile(r"[Vv]iew build log at '(?P<log>[^']+)'")


def root_path(state_directory: Path, uri: str, machine: str, generation: int) -> Path:
    """Return where generation number GENERATION of MACHINE, on the hypervisor URI, has its GC root.

    Two hypervisors may have machines of the same name: the URI is part of it.
    """
    hypervisor = hashlib.sha256(uri.encode()).hexdigest()[:12]
    return state_directory / "gc-roots" / hypervisor / f"{machine}.g{generation}"


def remove_root(root: Path) -> None:
    """Let the garbage collector have what ROOT kept; no error if nothing was kept."""
    root.unlink(missing_ok=True)


def realize(
    outputs: Mapping[str, str],
    roots: Mapping[str, Sequence[Path]],
    *,
    guix: Path,
    environment: Mapping[str, str],
    emit: Emit,
) -> bool:
    """Build the derivations that are the keys of OUTPUTS, whose values are what they lead to.

    ROOTS names, by derivation, the GC roots to make.  Guix honours
    GUIX_BUILD_OPTIONS by itself.  Return False if there was nothing to do.
    Raises BuildError with the end of the log.
    """
    needed = [
        derivation
        for derivation, output in outputs.items()
        if not Path(output).exists()
        or not all(_keeps(r, output) for r in roots.get(derivation, ()))
    ]
    if not needed:
        return False
    absent = [derivation for derivation in needed if not Path(outputs[derivation]).exists()]
    if absent:
        _guix_build(guix, ["--keep-going", *absent], environment, emit)
    for derivation in needed:
        for root in roots.get(derivation, ()):
            _register(guix, derivation, root, environment, emit)
    return True


def _keeps(root: Path, output: str) -> bool:
    return root.is_symlink() and str(root.readlink()) == output


def _register(
    guix: Path, derivation: str, root: Path, environment: Mapping[str, str], emit: Emit
) -> None:
    root.parent.mkdir(parents=True, exist_ok=True)
    # Guix does not replace a root that leads elsewhere.
    root.unlink(missing_ok=True)
    _guix_build(guix, [f"--root={root}", derivation], environment, emit)


def _guix_build(
    guix: Path, arguments: Iterable[str], environment: Mapping[str, str], emit: Emit
) -> None:
    try:
        run(
            [str(guix), "build", *arguments],
            environment=environment,
            on_error_line=lambda line: emit(BuildOutput(line)),
        )
    except CommandFailedError as error:
        raise _explained(error.stderr) from error


def _explained(stderr: str) -> BuildError:
    """Return the error that Guix's own words STDERR amount to."""
    lines = stderr.splitlines()
    logs = _LOG.findall(stderr)
    log = logs[0] if logs else None
    reasons = [line for line in lines if line.startswith(("guix build: error:", "error:"))]
    if "failed to connect" in stderr:
        return BuildError(
            reasons[-1] if reasons else "guix cannot reach its daemon",
            hint="Is guix-daemon running?",
            tail=tuple(lines[-_TAIL:]),
        )
    tail = _log_tail(Path(log)) if log else ()
    return BuildError(
        reasons[-1].removeprefix("guix build: error: ") if reasons else "guix build failed",
        log=log,
        tail=tail or tuple(lines[-_TAIL:]),
    )


def _log_tail(log: Path) -> tuple[str, ...]:
    """Return the last lines of LOG; none if it cannot be read, as on another machine."""
    try:
        data = log.read_bytes()
        match log.suffix:
            case ".gz":
                data = gzip.decompress(data)
            case ".bz2":
                data = bz2.decompress(data)
    except (OSError, EOFError):
        return ()
    return tuple(data.decode(errors="replace").splitlines()[-_TAIL:])
