# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at the hypervisors of some machines, and plan what is to be done there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

import msgspec

from pyguixvm.advice import reaching
from pyguixvm.commands.looking import looked_at
from pyguixvm.commands.session import Session
from pyguixvm.commands.shared_look import SharedLook
from pyguixvm.commands.system_contents import changes_within
from pyguixvm.errors import RequestRefusedError
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.model.provenance import Ancestry
from pyguixvm.model.transfer import Transfer
from pyguixvm.plan.actions import (
    CreateRoot,
    PrepareSystem,
)
from pyguixvm.plan.plan import MachinePlan, Plan, Policy

if TYPE_CHECKING:
    # libvirt is loaded only by the runs that get as far as a hypervisor.
    from pyguixvm.commands.ancestry import Commits
    from pyguixvm.commands.reach import Seen
    from pyguixvm.errors import PyguixvmError
    from pyguixvm.hypervisor.connection import Connection
    from pyguixvm.hypervisor.observe import Depth
    from pyguixvm.model.observation import Observation
    from pyguixvm.plan.ownership import Owner

# A save every few seconds would stack as many volumes.  What changes in such a window is taken
# back together, with all that the guest wrote meanwhile: so it is not much longer.
_WINDOW = timedelta(minutes=15)


@dataclass(frozen=True)
class Planned:
    """The PLAN for a hypervisor, after OBSERVATION.

    AGAIN looks at it anew, for whoever asks it meanwhile, too, and plans for one machine.
    OTHERWISE does so for one whose guest cannot be changed live after all; None where no
    other way is allowed.  AS_DECLARED does so for one as it was declared at another time.
    """

    connection: Connection
    plan: Plan
    observation: Observation
    again: Callable[[str], MachinePlan]
    as_declared: Callable[[VirtualMachine], MachinePlan]
    otherwise: Callable[[str], MachinePlan] | None = None


@dataclass(frozen=True)
class Unreached:
    """A hypervisor that cannot be reached, or looked at, for ERROR; its PLAN refuses all."""

    plan: Plan
    error: PyguixvmError


Sight: TypeAlias = Planned | Unreached


class _Make(Protocol):
    """Plans what is declared for one hypervisor."""

    def __call__(self, observation: Observation, *, only: str | None = None) -> Plan:
        """Return the plan after OBSERVATION, for the machine ONLY if it is given."""


@contextmanager
def observed(
    session: Session,
    machines: Sequence[VirtualMachine],
    *,
    policy: Policy = Policy(),  # noqa: B008 -- frozen
    depth: Depth | None = None,
    config: str | None = None,
    deployment: str | None = None,
    hypervisors: Sequence[str | None] = (),
    commits: Commits | None = None,
) -> Iterator[tuple[Sight, ...]]:
    """Connect to the hypervisors of MACHINES; yield each with the plan for its machines.

    CONFIG is the file that declares MACHINES, if these are all of them, and DEPLOYMENT
    the name that it gives to them as a whole.  HYPERVISORS are the URIs of all that it declares
    machines for, None for that of the session: a machine that is not where it is declared is
    looked for there.  COMMITS finds out what is older than what is
    there; without, nothing is.  DEPTH is how deep to look, at first; a plan
    needs the host and who is at work.  Of several hypervisors, one that does not answer does
    not stop the others.  Raises HypervisorError if it is the only one.
    """
    with looked_at(
        session,
        machines,
        depth=depth,
        config=config,
        deployment=deployment,
        hypervisors=hypervisors,
    ) as looked:
        planned: list[Sight] = []
        for each, owner in looked.seen:
            policy = msgspec.structs.replace(policy, since=_window())
            look = SharedLook(partial(_looked, each, session.state_directory))
            make, make_otherwise = (
                partial(
                    _made,
                    commits,
                    each.machines,
                    given=session.uri,
                    policy=allowed,
                    config=config,
                    owner=owner,
                )
                for allowed in (policy, msgspec.structs.replace(policy, prefer_live=False))
            )
            planned.append(
                Planned(
                    each.connection,
                    make(each.observation),
                    each.observation,
                    again=partial(_planned_again, look, make),
                    as_declared=partial(_planned_as, look, owner),
                    otherwise=partial(_planned_again, look, make_otherwise)
                    if policy.prefer_live
                    else None,
                )
            )
        for lost in looked.unseen:
            refused = tuple(
                MachinePlan(m, "none", refusal=lost.error.message, hint=lost.error.hint)
                for m in lost.machines
            )
            left = Plan(uri=lost.uri, machines=refused, config=config, deployment=deployment)
            planned.append(Unreached(left, lost.error))
        yield tuple(planned)


def _made(
    commits: Commits | None,
    machines: Sequence[VirtualMachine],
    observation: Observation,
    *,
    given: str | None,
    policy: Policy,
    config: str | None,
    owner: Owner,
    only: str | None = None,
) -> Plan:
    """Plan for MACHINES as `plan` does, after what COMMITS finds out.

    GIVEN is the URI of the hypervisor of those that name none, if there is one.
    """
    from pyguixvm.plan.planner import plan

    names = [machine.name for machine in machines if only in {None, machine.name}]
    ancestry = commits.ancestry(names, observation) if commits else Ancestry()
    made = plan(
        machines,
        observation,
        policy=policy,
        config=config,
        owner=owner,
        ancestry=ancestry,
        only=only,
    )
    told = tuple(
        msgspec.structs.replace(each, hint=reaching(each.hint, given, each.machine.hypervisor))
        for each in made.machines
    )
    return msgspec.structs.replace(made, machines=told)


def _looked(seen: Seen, state_directory: Path) -> Observation:
    from pyguixvm.commands.images_here import with_images_here

    return with_images_here(seen.look(), seen.machines, state_directory, seen.observation)


def _window() -> str:
    """Return since when changes by a guest's agent go to one volume (UTC in ISO 8601)."""
    return (datetime.now(UTC) - _WINDOW).isoformat(timespec="seconds")


def _planned_again(look: SharedLook[Observation], make: _Make, machine: str) -> MachinePlan:
    (plan,) = make(look.now(), only=machine).machines
    return plan


def _planned_as(
    look: SharedLook[Observation], owner: Owner, machine: VirtualMachine
) -> MachinePlan:
    from pyguixvm.plan.planner import plan

    (made,) = plan((machine,), look.now(), owner=owner).machines
    return made


def measured(session: Session, planned: Planned) -> Plan:
    """Return the plan of PLANNED with the bytes that its new roots have to move, and why."""
    from pyguixvm.apply.root_to_be import transfer
    from pyguixvm.digest.memory import Digests
    from pyguixvm.plan.foreseen import refused

    digests = Digests(session.state_directory)
    known: dict[CreateRoot, Transfer | None] = {}

    def how(machine: VirtualMachine, action: CreateRoot) -> Transfer | None:
        # Of machines of one image, the first one asks for all of them.
        any_of_them = msgspec.structs.replace(action, volume="")
        if any_of_them not in known:
            known[any_of_them] = transfer(
                planned.connection, machine, action, session.store, digests, session.via
            )
        return known[any_of_them]

    machines = []
    for plan in planned.plan.machines:
        told = msgspec.structs.replace(plan, system_changes=changes_within(plan))
        try:
            machines.append(_measured(told, how))
        except RequestRefusedError as error:
            machines.append(refused(told, error))
    return msgspec.structs.replace(planned.plan, machines=tuple(machines))


def _measured(
    plan: MachinePlan, how: Callable[[VirtualMachine, CreateRoot], Transfer | None]
) -> MachinePlan:
    """Return PLAN with what its new root has to move, and HOW."""
    for action in plan.actions:
        if isinstance(action, PrepareSystem):
            return msgspec.structs.replace(plan, bytes_to_move=None)
        if isinstance(action, CreateRoot):
            found = how(plan.machine, action)
            size = None if found is None else found.size
            return msgspec.structs.replace(plan, bytes_to_move=size, transfer=found)
    return msgspec.structs.replace(plan, bytes_to_move=0)
