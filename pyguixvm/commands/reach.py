# SPDX-License-Identifier: GPL-3.0-or-later
"""The hypervisors of some machines are connected to, told apart and looked at, side by side."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import TypeVar

from pyguixvm.commands.ahead import Way, opened
from pyguixvm.commands.session import Session
from pyguixvm.errors import HypervisorError, PyguixvmError, contained
from pyguixvm.hypervisor.connection import Connection, begin_identity, identity
from pyguixvm.hypervisor.observe import Depth, observe
from pyguixvm.hypervisor.uri import may_ask
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.model.hypervisor import Hypervisor
from pyguixvm.model.observation import Observation
from pyguixvm.plan.data_volumes import lacks_disks

_Answer = TypeVar("_Answer")

# How long (seconds) a hypervisor that says nothing is waited for when all the others answered.
_GRACE = 10.0
# So many are asked at once: what they answer is worked up by one processor, for which 30 threads
# that take turns need half as long again.  As long as that works less than so much of the time,
# as is seen whenever so long (seconds) has gone by, as many more are: those that are far away, or
# hang, hold nobody up.
_AT_ONCE = 4
_LOOK = 0.1
_BUSY = 0.5


@dataclass(frozen=True)
class Seen:
    """A hypervisor, the MACHINES that are declared for it, and what LOOK found there."""

    connection: Connection
    machines: tuple[VirtualMachine, ...]
    observation: Observation
    look: Callable[[], Observation]


@dataclass(frozen=True)
class Unseen:
    """The hypervisor at URI, which MACHINES are declared for, could not be looked at for ERROR."""

    uri: str
    machines: tuple[VirtualMachine, ...]
    error: PyguixvmError


@dataclass(frozen=True)
class _Way:
    """A connection; WHICH hypervisor it leads to is asked only if there are several URIs."""

    connection: Connection
    which: Hypervisor | None


def reached(
    session: Session,
    machines: Sequence[VirtualMachine],
    opened: ExitStack,
    depth: Depth | None = None,
) -> tuple[list[Seen], list[Unseen]]:
    """Return what is at the hypervisors of MACHINES, which are connected to until OPENED closes.

    DEPTH is how deep to look, at first: at what a plan needs unless something else is given.
    Many URIs may lead to one hypervisor.  It is used by way of the first, or of one
    that sees the files of this machine.  Raises PyguixvmError if there is only one, and that
    cannot be looked at.
    """

    def uri_of(machine: VirtualMachine) -> str | None:
        return machine.hypervisor or session.uri

    uris = list(dict.fromkeys(map(uri_of, machines)))
    ways: dict[str | None, _Way] = {}
    unseen: list[Unseen] = []

    def lost(uri: str | None, theirs: Sequence[VirtualMachine], error: PyguixvmError) -> None:
        if len(uris) == 1:
            raise error
        unseen.append(Unseen(_named(session, uri), tuple(theirs), error))

    several = len(uris) > 1
    connecting = [partial(_connected, session, uri, which=several) for uri in uris]
    asking = {number for number, uri in enumerate(uris) if may_ask(uri)}
    answers = _each(connecting, asking, _leave)
    for uri, found in zip(uris, answers, strict=True):
        if isinstance(found, PyguixvmError):
            lost(uri, [machine for machine in machines if uri_of(machine) == uri], found)
        else:
            ways[uri], connected = found
            opened.push(connected)
    chosen = _chosen(list(ways.values()))
    close_to: dict[Hypervisor | None, list[VirtualMachine]] = {}
    for machine in machines:
        if (way := ways.get(uri_of(machine))) is not None:
            close_to.setdefault(way.which, []).append(machine)
    theirs = [tuple(close_to[way.which]) for way in chosen]
    if depth is None:
        # Who plans keeps what a hypervisor's machines stand on by which one that is.
        for way in chosen:
            begin_identity(way.connection)
    depth = depth or Depth.HOST | Depth.HOLDERS | Depth.RECORDS
    names = [frozenset(machine.name for machine in declared) for declared in theirs]
    looks = [
        partial(observe, way.connection, depth, machines=close)
        for way, close in zip(chosen, names, strict=True)
    ]
    seen = []
    for way, declared, close, seen_there in zip(chosen, theirs, names, _each(looks), strict=True):
        if isinstance(seen_there, PyguixvmError):
            lost(way.connection.uri, declared, seen_there)
        else:
            # Of others, what was seen at first will do.
            lacking = any(lacks_disks(machine, seen_there) for machine in declared)
            anew = Depth.HOST | (Depth.RECORDS if lacking else Depth.DOMAINS)
            look = partial(observe, way.connection, anew, machines=close, before=seen_there)
            seen.append(Seen(way.connection, declared, seen_there, look))
    return seen, unseen


def elsewhere(
    session: Session,
    seen: Sequence[Seen],
    uris: Sequence[str | None],
    opened: ExitStack,
) -> list[Observation]:
    """Return what is at the hypervisors at URIS that were not SEEN, if a machine may be there.

    That is if one is not where it is declared.  They are connected to until OPENED closes.
    Those that cannot be looked at are passed over: whoever names machines does not ask for them.
    """
    tried = {machine.hypervisor or session.uri for each in seen for machine in each.machines}
    others = [uri for uri in dict.fromkeys(uri or session.uri for uri in uris) if uri not in tried]
    missing = any(m.name not in each.observation.domains for each in seen for m in each.machines)
    if not others or not missing:
        return []
    asking = {number for number, uri in enumerate(others) if may_ask(uri)}
    answers = _each(
        [partial(_connected, session, uri, which=True) for uri in others], asking, _leave
    )
    known = {identity(each.connection) for each in seen}
    ways: dict[Hypervisor | None, _Way] = {}
    for found in answers:
        if not isinstance(found, PyguixvmError):
            way, connected = found
            opened.push(connected)
            if way.which not in known:
                ways.setdefault(way.which, way)
    looked = _each([partial(observe, way.connection) for way in ways.values()]) if ways else []
    return [there for there in looked if not isinstance(there, PyguixvmError)]


def _connected(session: Session, uri: str | None, *, which: bool) -> tuple[_Way, ExitStack]:
    """Return the way to the hypervisor at URI, and what is to be closed at the end."""
    made = session.ahead.take(uri)
    connection, own = made or opened(Way(uri, session.patience, session.verify), asking=True)
    with own:
        session.ahead.used(uri, connection)
        way = _Way(connection, identity(connection) if which else None)
        return way, own.pop_all()


def _leave(connected: tuple[_Way, ExitStack]) -> None:
    connected[1].close()


def _chosen(ways: Sequence[_Way]) -> list[_Way]:
    """Return one of WAYS for each hypervisor."""
    chosen: dict[Hypervisor | None, _Way] = {}
    for way in ways:
        known = chosen.setdefault(way.which, way)
        if way.connection.local and not known.connection.local:
            chosen[way.which] = way
    return list(chosen.values())


def _named(session: Session, uri: str | None) -> str:
    """Return how a hypervisor that did not answer is called."""
    return uri or session.given_uri or "libvirt's default URI"


def _each(
    questions: Sequence[Callable[[], _Answer]],
    asking: Collection[int] = (),
    unwanted: Callable[[_Answer], None] = lambda _answer: None,
) -> list[_Answer | PyguixvmError]:
    """Return the answers to QUESTIONS, asked side by side, or why there is none.

    When all that answer have, nobody waits much longer for those that do not, but for the
    numbers ASKING, at which a person may be typing.  What comes later is UNWANTED.  Nothing is
    changed by them: whoever interrupts this does not wait for what hangs.
    """
    # One alone is asked by the main thread, which a signal reaches.
    if len(questions) == 1:
        return [_answer(questions[0])]
    answers: dict[int, _Answer | PyguixvmError] = {}
    arrived: SimpleQueue[tuple[int, _Answer | PyguixvmError]] = SimpleQueue()
    closing, closed = threading.Lock(), threading.Event()

    def ask(number: int) -> None:
        answer = _answer(questions[number])
        with closing:
            if not closed.is_set():
                arrived.put((number, answer))
                return
        if not isinstance(answer, PyguixvmError):
            unwanted(answer)

    begun, places = 0, Places()
    while len(answers) < len(questions):
        while begun < min(len(questions), len(answers) + places.there_are()):
            threading.Thread(target=ask, args=(begun,), name="question", daemon=True).start()
            begun += 1
        all_begun = begun == len(questions)
        missing = set(range(begun)) - answers.keys()
        one_answered = any(not isinstance(each, PyguixvmError) for each in answers.values())
        hurry = one_answered and not missing & set(asking)
        try:
            number, answer = arrived.get(
                timeout=(_GRACE if hurry else None) if all_begun else _LOOK
            )
        except Empty:
            if all_begun:
                break
            continue
        answers[number] = answer
    with closing:
        closed.set()
    while not arrived.empty():
        number, answer = arrived.get()
        answers[number] = answer
    return [answers[n] if n in answers else _late() for n in range(len(questions))]


class Places:
    """For how many there is place at once; CLOCK and SPENT tell the time, and the processor's."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        spent: Callable[[], float] = time.process_time,
    ) -> None:
        """Begin with few."""
        self._clock, self._spent = clock, spent
        self._places = _AT_ONCE
        self._since, self._worked = clock(), spent()

    def there_are(self) -> int:
        """Return how many there are by now."""
        now = self._clock()
        if now - self._since >= _LOOK:
            worked = self._spent()
            if worked - self._worked < _BUSY * (now - self._since):
                self._places += _AT_ONCE
            self._since, self._worked = now, worked
        return self._places


def _late() -> HypervisorError:
    return HypervisorError(
        f"cannot connect: it did not answer for {_GRACE:.0f} s after the others did",
        hint="They were not kept waiting. For those that are on this one, run the command again "
        "with their names.",
    )


def _answer(question: Callable[[], _Answer]) -> _Answer | PyguixvmError:
    try:
        return question()
    except Exception as error:  # noqa: BLE001 -- one's trouble is its own
        return contained(error)
