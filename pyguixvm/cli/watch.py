# SPDX-License-Identifier: GPL-3.0-or-later
"""The verb that stays: watch."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import NoReturn

import click
import msgspec

from pyguixvm import process
from pyguixvm.cli.build_options import build_options
from pyguixvm.cli.declaration import deploy_once, require_triable, status_of
from pyguixvm.cli.here import session
from pyguixvm.cli.options import (
    Options,
    Trying,
    common_options,
    config_arguments,
    jobs_option,
    policy_options,
    split_config,
    trial_option,
    via_option,
)
from pyguixvm.cli.safepoints import heeded
from pyguixvm.cli.ui.rounds import Ended, JsonRounds, Rounds
from pyguixvm.cli.ui.spent import Spent
from pyguixvm.commands.session import Session
from pyguixvm.errors import EvaluationError, PyguixvmError, UsageError
from pyguixvm.events import (
    DependenciesFound,
    Emit,
    Event,
    Phase,
    PhaseFinished,
    PhaseStarted,
)
from pyguixvm.guix.configuration import Expression
from pyguixvm.plan.plan import Policy, Trial
from pyguixvm.watch import Changes, watching

# Seconds.
_WORTH_TELLING = 0.05
# Terminals that cannot draw.
_DUMB = frozenset({"dumb", "unknown", ""})
_MAIN = threading.main_thread().ident or 0
# Until one of the others begins, nothing has happened to a guest, and nothing would be
# left behind: a newer save makes what is done pointless.
_POINTLESS_IF_SAVED: frozenset[Phase] = frozenset(
    {"evaluate", "observe", "build", "fetch", "grow", "transfer", "try", "verify"}
)


class _Round:
    """One deployment: whether a newer save may cancel it, and how long its phases took."""

    def __init__(self, emit: Emit, changes: Changes) -> None:
        """Begin now; pass events on to EMIT, and what the configuration depends on to CHANGES."""
        self._emit = emit
        self._changes = changes
        self._begun = time.time()
        self._files: tuple[str, ...] = ()
        self._spent = Spent()
        # What must be finished does not begin between the decision to cancel and the signal.
        self._deciding = threading.Lock()
        self.may_be_cancelled = True
        self.cancelled = False
        self.over = False

    def emit(self, event: Event) -> None:
        """Take note of EVENT, and pass it on."""
        match event:
            case DependenciesFound(files=files):
                self._files = files
            case PhaseFinished(phase="evaluate"):
                self.follow(complete=True)
            case PhaseStarted(phase=phase) if phase not in _POINTLESS_IF_SAVED:
                self.must_be_finished()
        if isinstance(event, PhaseFinished):
            now = time.monotonic()
            # Several machines are changed at once.
            with self._deciding:
                self._spent = self._spent.going_on(event.phase, now - event.seconds, now)
        self._emit(event)

    def follow(self, *, complete: bool) -> None:
        """Have the files watched that the configuration is known to depend on."""
        self._changes.follow(self._files, complete=complete, since=self._begun)

    def must_be_finished(self) -> None:
        """Have it cancelled no more; if it was just now, the signal is here when this returns."""
        with self._deciding:
            self.may_be_cancelled = False

    def cancel(self) -> bool:
        """Interrupt the main thread, unless it does what must be finished; whether it did so."""
        with self._deciding:
            if not self.may_be_cancelled or self.cancelled:
                return self.cancelled
            self.cancelled = True
            # A real signal: it ends what the thread waits for.
            signal.pthread_kill(_MAIN, signal.SIGINT)
            return True

    def end(self, config: Path, status: int) -> Ended:
        """Return how the round, a deployment of CONFIG, ended, and what took the time."""
        self.over = True
        phases = ", ".join(
            f"{phase} {seconds:.1f}"
            for phase, seconds in self._spent.seconds.items()
            if seconds >= _WORTH_TELLING
        )
        seconds = time.time() - self._begun
        summary = f"{seconds:.1f} s{f' ({phases})' if phases else ''}"
        return Ended(config, status, seconds, summary)


@click.command("watch", cls=Trying)
@config_arguments
@policy_options
@trial_option
@via_option
@jobs_option
@click.option(
    "--on-success", metavar="COMMAND", help="Have the shell run COMMAND if all went well."
)
@click.option("--on-failure", metavar="COMMAND", help="Have the shell run COMMAND if not.")
@build_options
@common_options
@click.pass_obj
def watch_command(
    options: Options,
    arguments: tuple[str, ...],
    policy: Policy,
    *,
    trial: Trial | None,
    jobs: int,
    on_success: str | None,
    on_failure: str | None,
) -> NoReturn:
    """Deploy CONFIG now, and again whenever it is saved, until Control-C.

    What it loads, its modules on the load path and its local-files count as well.  An
    operating system that a running guest can follow is given to that, by its agent; another
    one takes a new root, as for deploy.  A newer save cancels what it makes pointless, up to
    where a guest is touched.  After an error, machines stay as they are until the next save.
    On a terminal, a view shows the machines and the last change.

    COMMAND finds PYGUIXVM_CONFIG, PYGUIXVM_STATUS and PYGUIXVM_MESSAGE in its environment.
    """
    require_triable(policy, trial=trial)
    # A copy for a trial boots a root of its own.
    policy = msgspec.structs.replace(policy, prefer_live=trial is None)
    config, machines = split_config(options, arguments)
    if isinstance(config, Expression):
        raise UsageError(
            "watch waits for its configuration to be saved, and an expression never is",
            hint="Save it in a file; what that loads is watched as well.",
        )
    if not config.absolute().parent.is_dir():
        raise UsageError(
            f"there is no directory {config.absolute().parent}",
            hint="Give the name of a configuration, which may be yet to be written.",
        )
    output = _output(options, config)
    here = session(options, output)
    with watching(config, options.load_path) as changes:
        output.asked = changes.ask
        while True:
            current = _Round(here.emit, changes)
            output.begin(changes.last)
            changes.saved = partial(_saved, output, current, config)
            try:
                with heeded(here.emit) as interruption:
                    this = dataclasses.replace(here, interruption=interruption)
                    status, message = _deploy(
                        output, current, this, (config, machines), policy, trial=trial, jobs=jobs
                    )
                hook = on_failure if status else on_success
                if hook is not None:
                    _run_hook(output, hook, config, status, message)
                output.waiting(current.end(config, status))
            except KeyboardInterrupt:
                if not current.cancelled:
                    raise
                output.saved_again(config)
            changes.wait()
            while output.paused:
                changes.wait()


def _saved(output: Rounds, current: _Round, config: Path) -> None:
    """Have a save of CONFIG taken up, and say when: at once, unless a guest has been touched."""
    output.saved(config, after_this=not (current.over or current.cancel()))


def _output(options: Options, config: Path) -> Rounds:
    """Return what shows the rounds: a view on a terminal, lines in a pipe."""
    if options.json:
        return JsonRounds(options)
    terminal = sys.stdout.isatty() and sys.stderr.isatty()
    if options.verbosity == 0 and terminal and os.environ.get("TERM", "dumb") not in _DUMB:
        from pyguixvm.cli.ui.screen import Screen  # rich takes its time to load

        return Screen(options, config)
    return Rounds(options)


def _deploy(
    output: Rounds,
    current: _Round,
    here: Session,
    asked: tuple[Path, tuple[str, ...]],
    policy: Policy,
    *,
    trial: Trial | None,
    jobs: int,
) -> tuple[int, str]:
    """Deploy what is ASKED for; return the exit status and what to say of it."""
    here = dataclasses.replace(here, emit=current.emit)
    try:
        outcomes, _ = deploy_once(here, *asked, policy, trial=trial, jobs=jobs)
    except PyguixvmError as error:
        if isinstance(error, EvaluationError):
            current.follow(complete=False)
        output.error(error)
        status, message = error.status, error.message
    else:
        output.outcomes(outcomes)
        status = status_of(outcomes)
        message = "deployed" if status == 0 else "a machine failed"
    current.must_be_finished()
    return status, message


def _run_hook(output: Rounds, hook: str, config: Path, status: int, message: str) -> None:
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
