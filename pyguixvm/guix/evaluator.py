# SPDX-License-Identifier: GPL-3.0-or-later
"""The client of the Scheme evaluator: a configuration goes in, a Deployment comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from pyguixvm.errors import BuildError, EvaluationError
from pyguixvm.guix import server
from pyguixvm.guix.scheme import scheme_directory
from pyguixvm.model.deployment import SCHEMA, Deployment, Location
from pyguixvm.process import run

Want: TypeAlias = Literal["metadata", "systems", "images"]

TIME_LIMIT = 600


class Request(msgspec.Struct, frozen=True, rename="kebab"):
    """One evaluation; ENVIRONMENT and DIRECTORY are part of a configuration's input."""

    config: str
    want: Want
    machines: tuple[str, ...] | None
    directory: str
    environment: Mapping[str, str]
    schema: int = SCHEMA
    command: str = "evaluate"
    stderr: str | None = None
    time_limit: int = TIME_LIMIT


class _Failure(msgspec.Struct, frozen=True, rename="kebab"):
    kind: str
    message: str
    hint: str | None = None
    location: Location | None = None


class _Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    deployment: Deployment | None = None
    error: _Failure | None = None


@dataclass(frozen=True)
class Evaluator:
    """Evaluates configurations with the Guix at GUIX and the modules of LOAD_PATH."""

    guix: Path
    load_path: tuple[Path, ...]
    environment: Mapping[str, str]

    def evaluate(
        self,
        config: Path,
        *,
        want: Want,
        machines: Sequence[str] | None,
        forward: Callable[[bytes], None],
    ) -> Deployment:
        """Return what CONFIG declares, of MACHINES only unless that is None.

        WANT says how far to go: "metadata" lowers nothing, "systems" builds
        nothing, "images" gives the derivations to build.  FORWARD gets what
        the configuration writes to standard output and error.  Raises
        EvaluationError, and BuildError if Guix's daemon cannot be reached.
        """
        request = Request(
            config=str(config),
            want=want,
            machines=None if machines is None else tuple(machines),
            directory=str(Path.cwd()),
            environment=self.environment,
        )
        if self.environment.get("PYGUIXVM_EVALUATOR") == "off":
            return decode(self._once(request, forward))
        address = server.Address.of(self.guix, self.load_path, self.environment)
        return decode(server.ask(address, self.command, request, self.environment, forward))

    @property
    def command(self) -> tuple[str, ...]:
        """The command that runs the evaluator's script, without the script's own arguments."""
        scheme = scheme_directory()
        directories = [scheme, *self.load_path]
        return (
            str(self.guix),
            "repl",
            *(word for directory in directories for word in ("-L", str(directory))),
            "--",
            str(scheme / "pyguixvm/server.scm"),
        )

    def _once(self, request: Request, forward: Callable[[bytes], None]) -> bytes:
        completed = run(
            [*self.command, "--once"],
            stdin=msgspec.json.encode(request) + b"\n",
            environment=self.environment,
            on_error_line=lambda line: forward(f"{line}\n".encode()),
            timeout=TIME_LIMIT + 30,
            check=False,
        )
        if not completed.stdout.strip():
            raise EvaluationError(
                f"the evaluator ended without an answer (exit status {completed.status})",
                hint="What it said is above.",
            )
        return completed.stdout


def decode(line: bytes) -> Deployment:
    """Return the deployment in LINE, the evaluator's answer.

    Raises EvaluationError where the answer is an error, or is not understood.
    """
    try:
        answer = msgspec.json.decode(line, type=_Answer)
    except msgspec.MsgspecError as error:
        raise EvaluationError(
            f"the evaluator's answer is not understood: {error}",
            hint="Its Scheme modules and this pyguixvm are of different versions; "
            "install both from one checkout.",
        ) from error
    if answer.error is not None:
        raise _failed(answer.error)
    if answer.deployment is None or answer.deployment.schema != SCHEMA:
        raise EvaluationError("the evaluator answered with neither a deployment nor an error")
    return answer.deployment


def _failed(failure: _Failure) -> EvaluationError | BuildError:
    if "failed to connect to" in failure.message:
        return BuildError(failure.message, hint=failure.hint or "Is guix-daemon running?")
    return EvaluationError(
        failure.message,
        hint=failure.hint,
        location=str(failure.location) if failure.location else None,
    )
