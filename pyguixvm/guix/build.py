# SPDX-License-Identifier: GPL-3.0-or-later
"""Building what an evaluation names, by Guix itself, and keeping it.

A GC root lets Guix's garbage collector leave an image alone: here a symbolic
link of ours, which the daemon knows (an indirect root, see "Invoking guix gc"
in Guix's manual).
"""

from __future__ import annotations

import bz2
import gzip
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from pyguixvm.errors import BuildError
from pyguixvm.events import BuildOutput, Emit
from pyguixvm.process import CommandFailedError, run

_TAIL_LINES = 20
_LOG = re.compile(r"View build log at '([^']+)'")
_ERROR = re.compile(r"guix [a-z]+: error: (.*)")
# Colours and the erasing of lines (ECMA-48, control sequences).
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


def root_path(state_directory: Path, uri: str, machine: str, generation: int) -> Path:
    """Return the GC root of the image of GENERATION of MACHINE on the hypervisor at URI."""
    return state_directory / "gc-roots" / quote(uri, safe="") / machine / str(generation)


def remove_root(root: Path) -> None:
    """Remove ROOT, if it is there, and the directories that are empty then."""
    root.unlink(missing_ok=True)
    # As deep as root_path goes: the machine, the hypervisor, gc-roots.
    for directory in list(root.parents)[:3]:
        try:
            directory.rmdir()
        except OSError:
            return


def realize(
    outputs: Mapping[str, str],
    roots: Mapping[str, Sequence[Path]],
    *,
    guix: Path,
    environment: Mapping[str, str],
    emit: Emit,
) -> bool:
    """Build the derivations that OUTPUTS maps to what they build; register their ROOTS.

    Runs nothing, and returns false, if all is there already.  What Guix
    writes becomes BuildOutput events.  GUIX_BUILD_OPTIONS in ENVIRONMENT is
    honoured, by Guix.  Raises BuildError.
    """
    missing = [derivation for derivation, output in outputs.items() if not _built(Path(output))]
    unrooted = [
        (derivation, root)
        for derivation, output in outputs.items()
        for root in roots.get(derivation, ())
        if not _links_to(root, output)
    ]

    def guix_build(*arguments: str) -> None:
        _guix_build(guix, arguments, environment, emit)

    # All at once, so that Guix can build side by side, unless registering builds the only one.
    if missing and [derivation for derivation, _ in unrooted[:1]] != missing:
        guix_build("--keep-going", *missing)
    for derivation, root in unrooted:
        root.parent.mkdir(parents=True, exist_ok=True)
        if root.is_symlink():
            root.unlink()
        guix_build(f"--root={root.absolute()}", derivation)
    return bool(missing or unrooted)


def _built(output: Path) -> bool:
    """Return whether OUTPUT is complete: while the daemon builds it, it is locked."""
    return output.exists() and not output.with_name(f"{output.name}.lock").exists()


def _links_to(root: Path, output: str) -> bool:
    return root.is_symlink() and str(root.readlink()) == output and _built(Path(output))


def _guix_build(
    guix: Path, arguments: Sequence[str], environment: Mapping[str, str], emit: Emit
) -> None:
    lines: list[str] = []

    def take(text: str) -> None:
        line = clean(text)
        if line:
            lines.append(line)
            emit(BuildOutput(line=line))

    try:
        # What builders print goes to their logs, whose end is shown if one fails.
        command = [str(guix), "build", "--verbosity=1", *arguments]
        run(command, environment=environment, on_error_line=take)
    except CommandFailedError as error:
        raise failure(lines, error) from error


def clean(line: str) -> str:
    """Return LINE as a terminal would show it in the end: without colours, progress overwritten."""
    return _CONTROL.sub("", line).rstrip("\r\n").rpartition("\r")[2].rstrip()


def failure(lines: Sequence[str], error: CommandFailedError) -> BuildError:
    """Return what to tell about ERROR, of which guix wrote LINES."""
    errors = [match[1] for line in lines if (match := _ERROR.match(line))]
    logs = [match[1] for line in lines if (match := _LOG.search(line))]
    message = "; ".join(errors) or error.message
    if any("failed to connect to" in text for text in errors):
        return BuildError(message, hint="Is guix-daemon running?")
    if not logs:
        return BuildError(message, tail=tuple(lines[-_TAIL_LINES:]))
    # Of several, the first one failed; the others depend on it.
    return BuildError(message, log=logs[0], tail=_tail(Path(logs[0]), lines))


_DECOMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".bz2": bz2.decompress,
}


def _tail(log: Path, lines: Sequence[str]) -> tuple[str, ...]:
    """Return the last lines of LOG, or of what guix wrote if it cannot be read."""
    try:
        text = _DECOMPRESS.get(log.suffix, bytes)(log.read_bytes()).decode(errors="replace")
    except (OSError, EOFError, zlib.error):
        return tuple(lines[-_TAIL_LINES:])
    return tuple(clean(line) for line in text.splitlines()[-_TAIL_LINES:])
