# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking the Scheme evaluator what a configuration declares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NoReturn, TypeAlias

import msgspec

from pyguixvm import decoding
from pyguixvm.errors import BuildError, EvaluationError, UnknownMachineError
from pyguixvm.guix.configuration import Configuration, asked_for
from pyguixvm.guix.log import failure as build_failure
from pyguixvm.guix.request import Building, Exchange, Forward
from pyguixvm.model.declaration import SCHEMA, Caution, Deployment, Location

# What the derivations are computed of: nothing, the operating systems, the images, or both.
Want: TypeAlias = Literal["metadata", "systems", "derivations", "images"]
Depends: TypeAlias = Callable[[tuple[str, ...]], None]

_SECONDS = 600.0


class Failure(msgspec.Struct, forbid_unknown_fields=True):
    """What the evaluator reports instead of an answer; KIND is one of failure.scm's."""

    kind: str
    message: str
    hint: str | None = None
    location: Location | None = None

    @property
    def unreachable(self) -> bool:
        """Whether it is that guix-daemon cannot be reached."""
        return self.kind == "unreachable"

    @property
    def unknown_machine(self) -> bool:
        """Whether it is that a machine was asked for that is not declared."""
        # The words of select-machines, which has no place to name.
        return self.location is None and self.message.startswith(
            (
                "there is no machine '",
                "there is no machine with the tag '",
            )
        )


class _Answer(msgspec.Struct, forbid_unknown_fields=True):
    dependencies: tuple[str, ...] = ()
    deployment: Deployment | None = None
    error: Failure | None = None
    errors: tuple[Failure, ...] = ()
    log: str | None = None
    warnings: tuple[Caution, ...] = ()


def evaluate(
    exchange: Exchange,
    config: Configuration,
    *,
    want: Want,
    machines: Sequence[str] = (),
    tags: Sequence[str] = (),
    sharing: Literal["virtiofs", "9p"] = "virtiofs",
    shared_store: bool = False,
    build: bool = True,
    building: Building = lambda: None,
    forward: Forward,
    depends: Depends = lambda _files: None,
    seconds: float = _SECONDS,
) -> Deployment:
    """Return what CONFIG declares, of MACHINES and those with TAGS only if any are given.

    SHARING is how the default hypervisor shares directories with its guests.  With
    SHARED_STORE, machines run from the store of their host, where they can.  What grafts
    take is built only if BUILD, and BUILDING is called before; images say if they are not
    grafted because of that.
    FORWARD gets what the configuration and Guix write to standard error,
    while they do; DEPENDS the names of the files that they read or looked
    for, whether they like them or not.  It may take SECONDS, beside what is built.  Raises
    EvaluationError, and BuildError if the daemon cannot be reached or a build fails.
    """
    request = {
        "config": asked_for(config),
        "want": want,
        "machines": list(machines),
        "tags": list(tags),
        "sharing": sharing,
        "shared-store": shared_store,
        "build": build,
    }
    line = exchange.ask("evaluate", request, forward=forward, seconds=seconds, building=building)
    return decode(line, depends)


def decode(line: bytes, depends: Depends = lambda _files: None) -> Deployment:
    """Return the deployment that the answer LINE holds, and tell DEPENDS what it depends on.

    Raises EvaluationError with the failures that it holds instead, and BuildError if it is
    a build that failed.
    """
    try:
        answer = decoding.decode(line, _Answer)
    except msgspec.DecodeError as error:
        raise EvaluationError(
            f"the evaluator's answer is not understood: {error}",
            hint="Are pyguixvm's Python and Scheme parts of the same version?",
        ) from error
    depends(answer.dependencies)
    if answer.error is not None and answer.log is not None:
        raise build_failure(answer.error.message, answer.log)
    if answer.error is not None:
        _raise(answer.error, answer.errors[1:])
    if answer.deployment is None or answer.deployment.schema != SCHEMA:
        raise EvaluationError(
            "the evaluator's answer is of another version",
            hint="Are pyguixvm's Python and Scheme parts of the same version?",
        )
    return msgspec.structs.replace(answer.deployment, warnings=answer.warnings)


def _raise(failure: Failure, others: Sequence[Failure]) -> NoReturn:
    for each in (failure, *others):
        if each.unreachable:
            raise BuildError(each.message, hint=each.hint or "Is guix-daemon running?")
    if failure.unknown_machine:
        raise UnknownMachineError(failure.message, hint=failure.hint)
    first, *rest = (_error(each) for each in (failure, *others))
    first.others = tuple(rest)
    raise first


def _error(failure: Failure) -> EvaluationError:
    location = None if failure.location is None else str(failure.location)
    return EvaluationError(failure.message, hint=failure.hint, location=location)
