# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest goes and another one comes; whatever happens meanwhile, one of them runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

import msgspec

from pyguixvm.apply import power
from pyguixvm.apply.context import Workshop
from pyguixvm.apply.definition import ToBe, define_by, definition_to_be
from pyguixvm.apply.power import Restart
from pyguixvm.apply.root_volume import Root
from pyguixvm.errors import LostLockError, PyguixvmError
from pyguixvm.events import Notice, undisturbed
from pyguixvm.hypervisor import domains, networks, usage, volumes
from pyguixvm.hypervisor.at_once import begun
from pyguixvm.hypervisor.connection import Connection, anew
from pyguixvm.hypervisor.domains import Domain
from pyguixvm.plan.actions import DefineDomain, StartDomain, StopDomain
from pyguixvm.plan.plan import MachinePlan
from pyguixvm.plan.readiness import Evidence


@dataclass(frozen=True)
class Switched:
    """A guest was started; STOPPED is when the one before it was, on the workshop's clock."""

    evidence: Evidence
    stopped: float | None


def switch(  # noqa: PLR0917 -- what to do, with what, and who is told
    plan: MachinePlan,
    root: Root | None,
    config: str | None,
    workshop: Workshop,
    watched: ExitStack,
    defined: Callable[[], None],
) -> Switched:
    """Stop, define and start the machine of PLAN as its last actions say, on ROOT if it is new.

    All that can be found out before is, while the old guest runs.  DEFINED is called
    as soon as the definition refers to ROOT.  What watches the guest is closed with
    WATCHED.
    """
    name, far = plan.machine.name, not workshop.connection.local
    stopped: float | None = None
    evidence: Evidence | None = None

    def vouch() -> None:
        resolved.close()
        defined()

    with ExitStack() as resolved:
        to_be: ToBe | None = None
        for action in plan.switch:
            if isinstance(action, DefineDomain):
                made = definition_to_be(plan, action, root, config, workshop)
                to_be = resolved.enter_context(made)
        workshop.interruption.check()
        if to_be is None:
            domain: Domain | None = _to_be_seen(name, workshop)
            networks.ensure_networks(workshop.connection, plan.machine)
        else:
            domain = to_be.domain
        xml = to_be.before if to_be else None
        with unbroken(domain, name, workshop, xml), ExitStack() as vouched:
            # Nothing, where nothing is defined.
            refers: Callable[[], object] = resolved.close
            for action in plan.switch:
                match action:
                    case StopDomain():
                        stopped = workshop.clock()
                        power.stop(name, domain or name, action, workshop)
                    case DefineDomain():
                        if to_be is None:
                            raise ValueError("a switch defines what was made ready before")
                        domain = define_by(name, to_be, action, workshop)
                        refers = vouched.enter_context(_meanwhile(vouch, far=far))
                    case StartDomain():
                        evidence = power.start(plan.machine, domain, workshop, watched, refers)
    if evidence is None:
        raise ValueError("the last action of a switch starts the guest")
    return Switched(evidence, stopped)


@contextmanager
def _meanwhile(act: Callable[[], object], *, far: bool) -> Iterator[Callable[[], object]]:
    """Have ACT done while the body does something else, if that is FAR away.

    What is yielded waits for it, which the body is to do, once; one that fails before has it
    done all the same.
    """
    done, waited = begun(act, far=far), False

    def wait() -> object:
        nonlocal waited
        waited = True
        return done()

    try:
        yield wait
    except BaseException:
        if not waited:
            with suppress(Exception):
                done()
        raise


def _to_be_seen(name: str, workshop: Workshop) -> Domain:
    """Note that the guest of NAME, which is to start, was not seen ready; return its domain."""
    _, metadata, domain = domains.definition(workshop.connection, name)
    current = metadata.generation
    if not current.unseen:
        workshop.require(name)
        unseen = metadata.having(msgspec.structs.replace(current, unseen=True))
        domains.write_metadata(workshop.connection, domain, unseen)
    return domain


def restarted(
    plan: MachinePlan, wanted: Restart, workshop: Workshop, watched: ExitStack
) -> Switched:
    """Have the guest of PLAN boot by kexec, or else stop it and start it as it is defined."""
    name = plan.machine.name
    domain = domains.ours(workshop.connection, name)
    networks.ensure_networks(workshop.connection, plan.machine)
    with unbroken(domain, name, workshop):
        stopped = workshop.clock()
        evidence = power.restart(plan.machine, domain, wanted, workshop, watched)
        return Switched(evidence, stopped)


@contextmanager
def unbroken(
    domain: Domain | None, name: str, workshop: Workshop, xml: str | None = None
) -> Iterator[None]:
    """Let the body take away the guest of NAME and start it again; who interrupts it waits.

    DOMAIN is its own, None if there is none yet, and XML what it is defined by, if that was
    read already.

    If it fails and there is no guest then, the domain is defined as it was before, and
    started if it ran before.  What is the case is asked of libvirt: an exception
    does not tell whether what raised it was done.
    """
    with workshop.interruption.put_off(however_often=True):
        before = None if domain is None else _before(workshop.connection, domain, xml)
        try:
            yield
        except LostLockError:
            # Whoever took it over decides what becomes of it.
            raise
        except PyguixvmError as error:
            again = _put_back(before, workshop)
            if again is None:
                raise
            raise error.adding(again) from error
        except BaseException:
            again = _put_back(before, workshop)
            if again is not None:
                undisturbed(workshop.emit)(Notice(f"broken off; {again}", name, warning=True))
            raise


@dataclass(frozen=True)
class _Before:
    """The domain NAME as it was, defined by XML; RAN: with a guest."""

    name: str
    xml: str
    ran: bool


def _before(connection: Connection, domain: Domain, xml: str | None) -> _Before | None:
    xml = xml or domains.whole_definition(connection, domain)
    if xml is None:
        return None
    return _Before(domain.name, xml, domains.state(connection, domain) != "shut off")


def _put_back(before: _Before | None, workshop: Workshop) -> str | None:
    """Have the domain of BEFORE as it was; return what was done, in words, None for nothing.

    A domain that is new has nothing to go back to.
    """
    if before is None:
        return None
    name = before.name
    try:
        # The connection may be what failed.
        with anew(workshop.connection) as connection:
            if domains.state(connection, name) != "shut off":
                return None
            changed = domains.whole_definition(connection, name) != before.xml
            unneeded = _defined_again(connection, before) if changed else ()
            if before.ran:
                domains.start(connection, name)
            with suppress(PyguixvmError):
                for pool, volume in unneeded:
                    _discard(connection, pool, volume)
    except PyguixvmError as failure:
        return f"what was before could not be put back, and it is off: {failure.message}"
    if before.ran:
        return "the old definition runs again"
    return "the old definition was put back" if changed else None


def _defined_again(connection: Connection, before: _Before) -> tuple[tuple[str, str], ...]:
    """Define the domain of BEFORE as it was; return pools and volumes that it knew of meanwhile."""
    meanwhile = domains.read_metadata(connection, before.name)
    domains.define(connection, before.xml)
    known = domains.read_metadata(connection, before.name).volumes
    return tuple(
        (generation.pool, volume)
        for generation in meanwhile.generations
        for volume in generation.volumes
        if volume not in known
    )


def _discard(connection: Connection, pool: str, name: str) -> None:
    volume = volumes.lookup(connection, pool, name)
    if volume is not None and not usage.is_used(connection, volume.path):
        volumes.delete(connection, pool, name)
