# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests that have Guix do something, and show what it says while it does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from pyguixvm.decoding import decode
from pyguixvm.errors import BuildError, HalfDoneError
from pyguixvm.events import BuildOutput, Emit
from pyguixvm.guix import log
from pyguixvm.guix.evaluator import Failure
from pyguixvm.guix.request import Exchange


class Answer(msgspec.Struct, forbid_unknown_fields=True):
    """What comes back: an ERROR, or the fields that each kind of answer adds.

    LOG is the file name of the log of a build that failed.
    """

    error: Failure | None = None
    log: str | None = None


_Kind = TypeVar("_Kind", bound=Answer)


def work(  # noqa: PLR0917 -- whom to ask, what, and how to take it
    exchange: Exchange,
    emit: Emit,
    command: str,
    request: Mapping[str, object],
    kind: type[_Kind],
    seconds: float,
) -> _Kind:
    """Return the answer, of KIND, to COMMAND with REQUEST, which may take SECONDS.

    EMIT takes what Guix writes meanwhile, as BuildOutput.  Raises BuildError, and
    HalfDoneError if what it did cannot be undone by leaving it.
    """
    lines = log.Lines(lambda line: emit(BuildOutput(line=line)))
    line = exchange.ask(command, request, forward=lines.take, seconds=seconds)
    lines.finish()
    answer = decode(line, kind)
    if answer.error is None:
        return answer
    if answer.error.unreachable:
        raise BuildError(answer.error.message, hint="Is guix-daemon running?")
    failed = log.failure(answer.error.message, answer.log, lines.last)
    failed.hint = failed.hint or answer.error.hint
    if answer.error.kind == "half-done":
        raise HalfDoneError(failed.message, hint=failed.hint, log=failed.log, tail=failed.tail)
    raise failed
