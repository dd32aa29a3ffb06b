# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways through the house: from a configuration to a deployment, a plan, a running machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pyguixvm.errors import RequestRefusedError, UsageError
from pyguixvm.events import ChangePlanned, DependenciesFound, Emit, PlannedDifference, phase
from pyguixvm.guix.activation import Activation
from pyguixvm.guix.command import find_guix
from pyguixvm.guix.evaluator import Want
from pyguixvm.guix.evaluator import evaluate as ask_for_evaluation
from pyguixvm.guix.exchange import Exchange
from pyguixvm.guix.roots import system_root
from pyguixvm.guix.store import Store
from pyguixvm.hypervisor.sharing import sharing_driver
from pyguixvm.model.deployment import (
    Deployment,
    LocalImage,
    SharedStore,
    SystemImage,
    VirtualMachine,
)
from pyguixvm.model.names import generation_of, is_store_item
from pyguixvm.reconcile.plan import (
    CreateEmptyRoot,
    CreateRoot,
    DefineDomain,
    MachinePlan,
    Plan,
    Policy,
    PrepareSystem,
    StackRoot,
)
from pyguixvm.reconcile.readiness import check_patterns
from pyguixvm.reconcile.way import realizations
from pyguixvm.state import state_directory

if TYPE_CHECKING:
    # libvirt is loaded only by the runs that get as far as a hypervisor.
    from pyguixvm.hypervisor.connection import Connection
    from pyguixvm.model.observation import Observation
    from pyguixvm.reconcile.outcome import Outcome
    from pyguixvm.reconcile.status import MachineStatus


@dataclass(frozen=True)
class Session:
    """Where a run takes place: everything that comes from outside the configuration.

    URI is the hypervisor of machines that name none; FORWARD takes what
    the configuration itself writes to standard error.
    """

    uri: str | None
    load_path: tuple[Path, ...]
    environment: Mapping[str, str]
    emit: Emit
    forward: Callable[[bytes], None]

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
        result.detail = f"{config}, {_count(deployment.machines)}"
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
) -> Iterator[tuple[Planned, ...]]:
    """Connect to the hypervisors of MACHINES; yield each with the plan for its machines.

    CONFIG is the file that declares MACHINES, if these are all of them.
    Raises HypervisorError.
    """
    from pyguixvm.hypervisor.connection import connect
    from pyguixvm.hypervisor.observe import observe
    from pyguixvm.reconcile.planner import plan

    by_uri: dict[str | None, list[VirtualMachine]] = {}
    for machine in machines:
        by_uri.setdefault(machine.hypervisor or session.uri, []).append(machine)
    with ExitStack() as connections:
        planned = []
        for uri, theirs in by_uri.items():
            with phase(session.emit, "observe") as result:
                connection = connections.enter_context(connect(uri))
                observation = observe(connection)
                result.detail = connection.uri

            def again(
                connection: Connection = connection, theirs: Sequence[VirtualMachine] = theirs
            ) -> Plan:
                return plan(theirs, observe(connection), policy=policy, config=config)

            planned.append(
                Planned(
                    connection,
                    plan(theirs, observation, policy=policy, config=config),
                    observation,
                    again,
                )
            )
        yield tuple(planned)


def measured(session: Session, planned: Planned) -> Plan:
    """Return the plan of PLANNED with the bytes that its new roots have to move."""
    import msgspec

    from pyguixvm.reconcile.root import bytes_to_move

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
    from pyguixvm.hypervisor.lock import held
    from pyguixvm.reconcile.apply import apply
    from pyguixvm.reconcile.workshop import Workshop

    for each in planned:
        for machine_plan in each.plan.machines:
            session.emit(_announced(machine_plan, each.observation))
    _realize_plans(session, [each.plan for each in planned])
    outcomes: list[Outcome] = []
    for each in planned:
        workshop = Workshop(
            each.connection,
            session.emit,
            session.environment,
            session.store,
            Activation(session.exchange, config.absolute(), session.sharing, session.emit),
        )
        busy = [machine.machine for machine in each.plan.machines if machine.actions]
        with ExitStack() as locks:
            for machine in sorted(busy, key=lambda machine: machine.name):
                locks.enter_context(
                    held(each.connection, machine.domain.pool, machine.name, session.emit)
                )
            # Somebody else may have changed what we saw before we held the locks.
            plan = each.again() if busy else each.plan
            if plan != each.plan:
                _realize_plans(session, [plan])
            outcomes += apply(plan, workshop, trial=trial)
    return tuple(outcomes)


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
    session: Session, machines: Sequence[VirtualMachine], config: str | None
) -> tuple[MachineStatus, ...]:
    """Return how MACHINES compare with what is there.

    CONFIG is the file that declares them, if these are all of its machines:
    then those that it declared once are reported, too.
    """
    from pyguixvm.reconcile.status import statuses as compare

    with observed(session, machines, config=config) as planned:
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
    from pyguixvm.reconcile.status import applied_statuses as compare

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
    from pyguixvm.reconcile.define import definition
    from pyguixvm.reconcile.disk import planned_disks
    from pyguixvm.reconcile.root import planned_root
    from pyguixvm.reconcile.way import new_root
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
