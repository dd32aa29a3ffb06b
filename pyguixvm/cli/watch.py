# SPDX-License-Identifier: GPL-3.0-or-later
"""The verb that stays: watch."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

import click

from pyguixvm import process
from pyguixvm.cli.declaration import deploy_once, session
from pyguixvm.cli.options import (
    Options,
    common_options,
    config_arguments,
    policy_options,
    split_config,
)
from pyguixvm.cli.output import Output
from pyguixvm.errors import EvaluationError, PyguixvmError, UsageError
from pyguixvm.events import (
    BuildOutput,
    DependenciesFound,
    Emit,
    Event,
    Phase,
    PhaseFinished,
    PhaseProgress,
    PhaseStarted,
)
from pyguixvm.pipeline import Session
from pyguixvm.reconcile.plan import Policy
from pyguixvm.watch import Changes, watching

# Seconds.
_WORTH_TELLING = 0.05
_MAIN = threading.main_thread().ident or 0
# Until one of the others begins, nothing has happened to a guest, and nothing would be
# left behind: a newer save makes what is done pointless.
_POINTLESS_IF_SAVED: frozenset[Phase] = frozenset(
    {"evaluate", "observe", "build", "grow", "transfer"}
)


class _Lines(Output):
    """Prints one line of JSON for each thing that happens."""

    def emit(self, event: Event) -> None:
        """Print EVENT, unless it is one of thousands."""
        import msgspec

        if not isinstance(event, BuildOutput | PhaseProgress):
            self._write(msgspec.to_builtins(event))

    def document(self, value: Any) -> None:
        """Print VALUE, how a deployment ended."""
        import msgspec

        document = msgspec.to_builtins(value)
        self._write({"type": "failed" if "error" in document else "deployed", **document})

    def note(self, text: str) -> None:
        """Print TEXT, what a person would be told."""
        self._write({"type": "note", "message": text})

    def _write(self, value: dict[str, Any]) -> None:
        import msgspec

        # At once: whoever reads acts on it.
        click.echo(msgspec.json.encode(value).decode())


class _Round:
    """One deployment: whether a newer save may cancel it, and how long its phases took."""

    def __init__(self, emit: Emit, changes: Changes) -> None:
        """Begin now; pass events on to EMIT, and what the configuration depends on to CHANGES."""
        self._emit = emit
        self._changes = changes
        self._begun = time.time()
        self._files: tuple[str, ...] = ()
        self._seconds: dict[Phase, float] = {}
        self.may_be_cancelled = True
        self.cancelled = False

    def emit(self, event: Event) -> None:
        """Take note of EVENT, and pass it on."""
        match event:
            case DependenciesFound(files=files):
                self._files = files
            case PhaseFinished(phase="evaluate"):
                self.follow(complete=True)
            case PhaseStarted(phase=phase) if phase not in _POINTLESS_IF_SAVED:
                self.may_be_cancelled = False
        if isinstance(event, PhaseFinished):
            self._seconds[event.phase] = self._seconds.get(event.phase, 0.0) + event.seconds
        self._emit(event)

    def follow(self, *, complete: bool) -> None:
        """Have the files watched that the configuration is known to depend on."""
        self._changes.follow(self._files, complete=complete, since=self._begun)

    def cancel(self) -> None:
        """Interrupt the main thread, unless it does what must be finished."""
        if self.may_be_cancelled and not self.cancelled:
            self.cancelled = True
            # A real signal: it ends what the thread waits for.
            signal.pthread_kill(_MAIN, signal.SIGINT)

    def summary(self) -> str:
        """Return in words how long all of it took, and the phases that took most."""
        phases = ", ".join(
            f"{phase} {seconds:.1f}"
            for phase, seconds in self._seconds.items()
            if seconds >= _WORTH_TELLING
        )
        return f"{time.time() - self._begun:.1f} s{f' ({phases})' if phases else ''}"


@click.command("watch")
@config_arguments
@policy_options
@click.option(
    "--on-success", metavar="COMMAND", help="Have the shell run COMMAND if all went well."
)
@click.option("--on-failure", metavar="COMMAND", help="Have the shell run COMMAND if not.")
@common_options
@click.pass_obj
def watch_command(
    options: Options,
    arguments: tuple[str, ...],
    policy: Policy,
    on_success: str | None,
    on_failure: str | None,
) -> NoReturn:
    """Deploy CONFIG now, and again whenever it is saved, until Control-C.

    What it loads, its modules on the load path and its local-files count as well.  A
    newer save cancels what it makes pointless, up to where a guest is touched.  After
    an error, machines stay as they are until the next save.

    COMMAND finds PYGUIXVM_CONFIG, PYGUIXVM_STATUS and PYGUIXVM_MESSAGE in its environment.
    """
    output = _Lines(options) if options.json else Output(options)
    config, _ = split_config(arguments)
    if not config.absolute().parent.is_dir():
        raise UsageError(
            f"there is no directory {config.absolute().parent}",
            hint="Give the name of a configuration, which may be yet to be written.",
        )
    here = session(options, output)
    with watching(config, options.load_path) as changes:
        while True:
            current = _Round(output.emit, changes)
            changes.saved = current.cancel
            try:
                status, message = _deploy(output, current, here, arguments, policy)
                hook = on_failure if status else on_success
                if hook is not None:
                    _run_hook(output, hook, config, status, message)
                output.note(f"{current.summary()}; waiting for {config} to be saved")
            except KeyboardInterrupt:
                if not current.cancelled:
                    raise
                output.note(f"{config} was saved meanwhile: starting over")
            changes.wait()


def _deploy(
    output: Output,
    current: _Round,
    here: Session,
    arguments: tuple[str, ...],
    policy: Policy,
) -> tuple[int, str]:
    """Deploy what ARGUMENTS name; return the exit status and what to say of it."""
    try:
        status, _ = deploy_once(
            output, dataclasses.replace(here, emit=current.emit), arguments, policy
        )
    except PyguixvmError as error:
        if isinstance(error, EvaluationError):
            current.follow(complete=False)
        output.error(error)
        status, message = error.status, error.message
    else:
        message = "deployed" if status == 0 else "a machine failed"
    current.may_be_cancelled = False
    return status, message


def _run_hook(output: Output, hook: str, config: Path, status: int, message: str) -> None:
    """Have the shell run HOOK, and show what it writes; that it fails ends nothing."""
    environment = {
        **os.environ,
        "PYGUIXVM_CONFIG": str(config.absolute()),
        "PYGUIXVM_STATUS": str(status),
        "PYGUIXVM_MESSAGE": message,
    }
    done = process.run(["/bin/sh", "-c", hook], environment=environment, check=False)
    output.forward(done.stdout + done.stderr)
    if done.status:
        output.note(f"'{hook}' ended with status {done.status}")
