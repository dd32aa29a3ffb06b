# SPDX-License-Identifier: GPL-3.0-or-later
"""The lines of ``watch --json``, one for each thing that happens, as structures."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast, get_args

import msgspec

from pyguixvm.cli.documents import DeployedMachine, Document, Error
from pyguixvm.events import BuildOutput, Event, GuestOutput, MachineEnded, PhaseProgress

# There would be thousands of them; what became of machines is told of all at once.
UNTOLD = (BuildOutput, GuestOutput, PhaseProgress, MachineEnded)


class Line(Document, frozen=True, kw_only=True, tag_field="type"):
    """What all lines have: TIME is UTC in ISO 8601, ROUND counts from 1, one for each save."""

    time: str
    round: int


class Saved(Line, frozen=True, kw_only=True, tag="saved"):
    """What is watched was saved during ROUND or after it.

    It is taken up at once, where need be by giving up what is going on, or AFTER-THIS: after
    the round, which has touched a guest.
    """

    config: str
    after_this: bool


class Note(Line, frozen=True, kw_only=True, tag="note"):
    """What a person would be told."""

    message: str


class RoundDeployed(Line, frozen=True, kw_only=True, tag="deployed"):
    """What became of each machine."""

    machines: tuple[DeployedMachine, ...]


class RoundFailed(Line, frozen=True, kw_only=True, tag="failed"):
    """What ended the round before a machine was touched, or what ended ``watch``."""

    error: Error


class RoundEnded(Line, frozen=True, kw_only=True, tag="round-ended"):
    """The round took SECONDS, and the next save is waited for.  STATUS is as of ``deploy``."""

    status: int
    seconds: float


def _of_event(event: type[msgspec.Struct]) -> type[Line]:
    """Return the structure of the line that tells of EVENT."""
    config = event.__struct_config__
    fields = []
    for field in msgspec.structs.fields(event):
        known: list[Any] = [field.name, field.type]
        if not field.required:
            known.append(field.default)
        fields.append(tuple(known))
    made = msgspec.defstruct(
        event.__name__,
        fields,
        bases=(Line,),
        namespace={"__doc__": event.__doc__},
        frozen=True,
        kw_only=True,
        rename="kebab",
        tag=config.tag,
    )
    return cast("type[Line]", made)


_OF_EVENTS = {event: _of_event(event) for event in get_args(Event) if event not in UNTOLD}
KINDS: tuple[type[Line], ...] = (
    *_OF_EVENTS.values(), Saved, Note, RoundDeployed, RoundFailed, RoundEnded,
)  # fmt: skip


def of_event(event: Event, number: int) -> Line | None:
    """Return the line that tells of EVENT in round NUMBER; None for one of thousands."""
    kind = _OF_EVENTS.get(type(event))
    if kind is None:
        return None
    return kind(time=now(), round=number, **msgspec.structs.asdict(event))


def now() -> str:
    """Return the time, as lines have it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
