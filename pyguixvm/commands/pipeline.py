# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways through the house: from a configuration to a deployment, a plan, a running machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pyguixvm.errors import RequestRefusedError, UsageError
from pyguixvm.events import ChangePlanned, DependenciesFound, Emit, Notice, PlannedDifference, phase
from pyguixvm.guix.activation import Activation
from pyguixvm.guix.command import find_guix
from pyguixvm.guix.evaluator import Want
from pyguixvm.guix.evaluator import evaluate as ask_for_evaluation
from pyguixvm.guix.exchange import Exchange
from pyguixvm.guix.roots import system_root
from pyguixvm.guix.store import Store
from pyguixvm.hypervisor.sharing import sharing_driver
from pyguixvm.interruption import Interruption
from pyguixvm.model.declaration import (
    Deployment,
    LocalImage,
    SharedStore,
    SystemImage,
    VirtualMachine,
)
from pyguixvm.model.limits import check_storage
from pyguixvm.model.volume_names import generation_of, is_store_item
from pyguixvm.plan.plan import (
    CreateEmptyRoot,
    CreateRoot,
    DefineDomain,
    MachinePlan,
    Plan,
    Policy,
    PrepareSystem,
    StackRoot,
)
from pyguixvm.plan.readiness import check_patterns
from pyguixvm.plan.strategies.choose import realizations
from pyguixvm.state import state_directory

if TYPE_CHECKING:
    # libvirt is loaded only by the runs that get as far as a hypervisor.
    from pyguixvm.apply.outcome import Outcome
    from pyguixvm.hypervisor.connection import Connection
    from pyguixvm.model.hypervisor import Hypervisor
    from pyguixvm.model.observation import Observation
    from pyguixvm.plan.status import MachineStatus


@dataclass(frozen=True)
class Session:
    """Where a run takes place: everything that comes from outside the configuration.

    URI is the hypervisor of machines that name none; FORWARD takes what
    the configuration itself writes to standard error.  INTERRUPTION tells whether
    the person wants the run to end.
    """

    uri: str | None
    load_path: tuple[Path, ...]
    environment: Mapping[str, str]
    emit: Emit
    forward: Callable[[bytes], None]
    interruption: Interruption = field(default_factory=Interruption)

    @property
    def state_directory(self) -> Path:
        """Where GC roots are registered."""
        return state_directory(self.environment)

    @property
    def store(self) -> Store:
        """The store of this machine; Guix is looked for when it is needed."""
        return Store(self.exchange, self.state_directory.absolute(), self.emit)

    @property
    def sharing(self) -> Literal["virtiofs", "9p"]:
        """How the hypervisor of machines that name none shares directories with guests."""
        return sharing_driver(self.uri or self.environment.get("LIBVIRT_DEFAULT_URI"), os.geteuid())

    def exchange(self) -> Exchange:
        """Return the way to the evaluator.  Raises BuildError if there is no Guix."""
        return Exchange(find_guix(self.environment), self.load_path, self.environment)


def evaluate(
    session: Session,
    config: Path,
    machines: Sequence[str] = (),
    *,
    want: Want,
    shared_store: bool = False,
) -> Deployment:
    """Return what CONFIG declares, of MACHINES only if any are named.

    SHARED_STORE: as machines are that run from the store of their host.
    Raises UsageError if there is no such file, EvaluationError if it is refused.
    """
    if config.is_dir():
        raise UsageError(
            f"{config} is a directory", hint="Name the file in it that declares machines."
        )
    if not config.is_file():
        raise UsageError(
            f"there is no configuration {config}",
            hint="Give its name, or go to the directory of a config.scm.",
        )
    exchange = session.exchange()
    with phase(session.emit, "evaluate", detail=str(config)) as result:
        deployment = ask_for_evaluation(
            exchange,
            config.absolute(),
            want=want,
            machines=tuple(machines) or None,
            shared_store=shared_store,
            sharing=session.sharing,
            forward=session.forward,
            depends=lambda files: session.emit(DependenciesFound(files)),
        )
        for machine in deployment.machines:
            check_patterns(machine)
            check_storage(machine)
        result.detail = f"{config}, {_count(deployment.machines)}"
    for caution in deployment.warnings:
        session.emit(Notice(str(caution), warning=True))
    return deployment


def _count(machines: Sequence[VirtualMachine]) -> str:
    return "1 machine" if len(machines) == 1 else f"{len(machines)} machines"


def build(session: Session, deployment: Deployment) -> tuple[tuple[VirtualMachine, str], ...]:
    """Build the images that DEPLOYMENT declares; return each machine with its image's file name.

    Raises BuildError.
    """
    images = [machine.image for machine in deployment.machines]
    outputs = {
        image.derivation: image.output
        for image in images
        if isinstance(image, SystemImage) and image.derivation and image.output
    }
    _realize(session, outputs, {})
    return tuple(
        (machine, image.path if isinstance(image, LocalImage) else image.output or "")
        for machine, image in zip(deployment.machines, images, strict=True)
        if not isinstance(image, SharedStore)
    )


def _realize(session: Session, outputs: Mapping[str, str], roots: Mapping[Path, str]) -> None:
    """Build what is not there yet, all in one run of Guix, before anything is touched."""
    if not outputs and not roots:
        return
    with phase(session.emit, "build") as result:
        built = session.store.realize(outputs, roots)
        result.detail = " ".join(outputs.values()) if built and outputs else "nothing to build"


@dataclass(frozen=True)
class Planned:
    """The PLAN for a hypervisor, after OBSERVATION; AGAIN observes it anew and plans the same."""

    connection: Connection
    plan: Plan
    observation: Observation
    again: Callable[[], Plan]


@contextmanager
def observed(
    session: Session,
    machines: Sequence[VirtualMachine],
    *,
    policy: Policy = Policy(),  # noqa: B008 -- frozen
    config: str | None = None,
    deployment: str | None = None,
) -> Iterator[tuple[Planned, ...]]:
    """Connect to the hypervisors of MACHINES; yield each with the plan for its machines.

    CONFIG is the file that declares MACHINES, if these are all of them, and DEPLOYMENT
    the name that it gives to them as a whole.  Raises HypervisorError.
    """
    from pyguixvm.hypervisor.observe import observe
    from pyguixvm.plan.ownership import owner_at
    from pyguixvm.plan.planner import plan

    with ExitStack() as opened:
        with phase(session.emit, "observe") as result:
            hypervisors = _hypervisors(session, machines, opened)
            observations = [observe(connection, host=True) for connection, _ in hypervisors]
            result.detail = ", ".join(connection.uri for connection, _ in hypervisors)
        found = [
            (theirs, seen) for (_, theirs), seen in zip(hypervisors, observations, strict=True)
        ]
        planned = []
        for index, (connection, theirs) in enumerate(hypervisors):
            owner = owner_at(index, found, name=deployment, complete=config is not None)
            make = partial(plan, theirs, policy=policy, config=config, owner=owner)
            seen = observations[index]
            again = partial(_planned_again, make, connection)
            planned.append(Planned(connection, make(seen), seen, again))
        yield tuple(planned)


def _planned_again(make: Callable[[Observation], Plan], connection: Connection) -> Plan:
    from pyguixvm.hypervisor.observe import observe

    return make(observe(connection, host=True))


def _hypervisors(
    session: Session, machines: Sequence[VirtualMachine], opened: ExitStack
) -> list[tuple[Connection, list[VirtualMachine]]]:
    """Return the hypervisors of MACHINES, connected to until OPENED closes, and what each runs.

    Many URIs may lead to one hypervisor.  It is used by way of the first, or of one
    that sees the files of this machine.
    """
    from pyguixvm.hypervisor.connection import connect, identity

    def uri_of(machine: VirtualMachine) -> str | None:
        return machine.hypervisor or session.uri

    connections = {
        uri: opened.enter_context(connect(uri)) for uri in dict.fromkeys(map(uri_of, machines))
    }
    if len(connections) < 2:  # noqa: PLR2004 -- one alone is not asked which it is
        return [(connection, list(machines)) for connection in connections.values()]
    which = {uri: identity(connection) for uri, connection in connections.items()}
    ways: dict[Hypervisor, Connection] = {}
    for uri, connection in connections.items():
        known = ways.setdefault(which[uri], connection)
        if connection.local and not known.local:
            ways[which[uri]] = connection
    return [
        (connection, [machine for machine in machines if which[uri_of(machine)] == hypervisor])
        for hypervisor, connection in ways.items()
    ]


def measured(session: Session, planned: Planned) -> Plan:
    """Return the plan of PLANNED with the bytes that its new roots have to move."""
    import msgspec

    from pyguixvm.apply.root_volume import bytes_to_move

    machines = []
    for plan in planned.plan.machines:
        moved: int | None = 0
        for action in plan.actions:
            if isinstance(action, CreateRoot):
                moved = bytes_to_move(planned.connection, plan.machine, action, session.store)
            elif isinstance(action, PrepareSystem):
                moved = None
        machines.append(msgspec.structs.replace(plan, bytes_to_move=moved))
    return msgspec.structs.replace(planned.plan, machines=tuple(machines))


def deploy(
    session: Session, config: Path, planned: Sequence[Planned], *, trial: bool = False
) -> tuple[Outcome, ...]:
    """Carry out the plans of PLANNED for what CONFIG declares; return what became of each machine.

    With TRIAL, a new root has to get ready in a throwaway copy before.  Whoever
    wants to change one of these machines meanwhile waits.  Raises BuildError, and
    then nothing was touched.
    """
    from pyguixvm.apply.context import Workshop
    from pyguixvm.apply.executor import apply

    for each in planned:
        for machine_plan in each.plan.machines:
            session.emit(_announced(machine_plan, each.observation))
    _realize_plans(session, [each.plan for each in planned])
    outcomes: list[Outcome] = []
    for each in planned:
        with _locked(each, session.emit) as (plan, require):
            if plan != each.plan:
                _realize_plans(session, [plan])
            workshop = Workshop(
                each.connection,
                session.emit,
                session.environment,
                session.store,
                Activation(session.exchange, config.absolute(), session.sharing, session.emit),
                session.interruption,
                require=require,
            )
            outcomes += apply(plan, workshop, trial=trial)
    return tuple(outcomes)


@contextmanager
def _locked(planned: Planned, emit: Emit) -> Iterator[tuple[Plan, Callable[[str], None]]]:
    """Yield the plan of PLANNED, and what makes sure that its machines are ours to change.

    It is made again when their locks are held: somebody else may have changed what was
    seen before.  Should it change more machines then, all locks are taken anew: in the
    order of names, as everybody does, and held only where something is changed.
    """
    from pyguixvm.hypervisor.machine_lock.lock import held

    busy = _changed(planned.plan)
    while True:
        with held(planned.connection, busy, emit, "deploy") as lock:
            plan = planned.again() if busy else planned.plan
            if _changed(plan) <= busy:
                yield plan, lock.require
                return
        busy |= _changed(plan)


def _changed(plan: Plan) -> frozenset[str]:
    """Return the names of the machines that PLAN changes."""
    return frozenset(machine.machine.name for machine in plan.machines if machine.actions)


def _announced(plan: MachinePlan, observation: Observation) -> ChangePlanned:
    """Return PLAN as the event that says what is going to happen."""
    domain = observation.domains.get(plan.machine.name)
    metadata = domain.metadata if domain else None
    current = metadata.current if metadata else None
    targets = [a.generation for a in plan.actions if isinstance(a, DefineDomain)]
    return ChangePlanned(
        machine=plan.machine.name,
        effect=plan.effect,
        differences=tuple(
            PlannedDifference(d.path, d.old, d.new, d.effect, d.pending) for d in plan.differences
        ),
        strategy=plan.strategy,
        reason=plan.reason,
        refusal=plan.refusal,
        generation=current,
        target=next(iter(targets), current),
        state=domain.state if domain else None,
    )


def _realize_plans(session: Session, plans: Sequence[Plan]) -> None:
    """Build what PLANS need, and protect it from Guix's garbage collector."""
    outputs: dict[str, str] = {}
    roots: dict[Path, str] = {}
    for plan in plans:
        for machine in plan.machines:
            outputs.update(realizations(machine.actions))
            for action in machine.actions:
                if isinstance(action, CreateRoot | CreateEmptyRoot | StackRoot):
                    roots.update(_roots(session.store, plan.uri, action))
    _realize(session, outputs, roots)


def _roots(
    store: Store, uri: str, action: CreateRoot | CreateEmptyRoot | StackRoot
) -> Iterator[tuple[Path, str]]:
    """Yield the GC roots of the generation whose root volume ACTION makes, and their items."""
    named = generation_of(action.volume)
    item = action.system if isinstance(action, CreateEmptyRoot) else action.image
    if named is None or not is_store_item(item):
        return
    root = store.root(uri, *named)
    yield root, item
    if isinstance(action, CreateRoot) and action.content is not None:
        yield system_root(root), action.content.system.output


def statuses(
    session: Session,
    machines: Sequence[VirtualMachine],
    config: str | None,
    deployment: str | None = None,
) -> tuple[MachineStatus, ...]:
    """Return how MACHINES compare with what is there.

    CONFIG is the file that declares them, if these are all of its machines, and
    DEPLOYMENT its name, if it has one: then those that it does not declare any more
    are reported, too.
    """
    from pyguixvm.plan.status import statuses as compare

    with observed(session, machines, config=config, deployment=deployment) as planned:
        return tuple(
            status
            for each in planned
            for status in compare(
                [machine.machine for machine in each.plan.machines],
                each.observation,
                each.plan.undeclared,
            )
        )


def applied_statuses(session: Session, names: Sequence[str]) -> tuple[MachineStatus, ...]:
    """Return how our machines, those NAMES if any, compare with what was applied.

    Raises RequestRefusedError if there is no machine of one of NAMES.
    """
    from pyguixvm.hypervisor.connection import connect
    from pyguixvm.hypervisor.observe import observe
    from pyguixvm.plan.status import applied_statuses as compare

    with connect(session.uri) as connection:
        found = compare(observe(connection), names)
        missing = set(names) - {status.name for status in found}
        if missing:
            raise RequestRefusedError(
                f"there is no machine '{min(missing)}' on {connection.uri}",
                hint="'pyguixvm list' shows those there are.",
            )
        return found


def domain_documents(
    session: Session, machines: Sequence[VirtualMachine]
) -> tuple[tuple[str, str], ...]:
    """Return the name and the domain XML of each of MACHINES, as deploying it now would define it.

    File names in pools that do not exist yet are those that would be made.
    """
    from pyguixvm.apply.data_disk import planned_disks
    from pyguixvm.apply.definition import definition
    from pyguixvm.apply.root_volume import planned_root
    from pyguixvm.plan.strategies.choose import new_root
    from pyguixvm.xml.domain import domain_xml

    documents = []
    with observed(session, machines) as planned:
        for each in planned:
            for machine_plan in each.plan.machines:
                machine = machine_plan.machine
                root = planned_root(each.connection, machine, new_root(machine, 1))
                disks = planned_disks(machine, Path(root.path).parent)
                wanted = definition(machine, root, disks, each.connection, session.environment)
                documents.append((machine.name, domain_xml(wanted)))
    return tuple(documents)
