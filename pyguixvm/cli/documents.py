# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``--json`` prints, as structures; doc/json.md and doc/json-schema.json are made of them.

Each document says by its schema how it is to be read.  A machine is always called by the
key ``machine``; where it was ``name`` before, that stays beside it for who reads it still.
A place is always an object of file, line and column.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from pyguixvm.model.declaration import Caution, Location, VirtualMachine
from pyguixvm.model.difference import Difference, Effect
from pyguixvm.model.guest import Inside
from pyguixvm.model.listed import Listed, ListedGeneration, ListedVolume
from pyguixvm.model.observation import State, StoredVolume
from pyguixvm.model.statistics import PoolSpace, Statistics
from pyguixvm.model.system_change import SystemChange
from pyguixvm.model.transfer import Transfer
from pyguixvm.model.usage import Kept
from pyguixvm.plan.actions import Action
from pyguixvm.plan.garbage import Garbage
from pyguixvm.plan.graph import Edge, Node
from pyguixvm.plan.guest import GuestSystem
from pyguixvm.plan.origins import Origins
from pyguixvm.plan.rates import Rates
from pyguixvm.plan.status import PastDeploy, Verdict

Schema: TypeAlias = Literal[2]
SCHEMA: Schema = 2


class _Part(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """Common options."""


class _Named(_Part, frozen=True, kw_only=True):
    machine: str
    # What the key was before; the structures below say so.
    name: str = ""

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "name", self.machine)


class Document(_Part, frozen=True, kw_only=True):
    """What all documents have."""

    schema: Schema = SCHEMA


class Error(_Part, frozen=True, kw_only=True):
    """What went wrong; STATUS is the exit status that it alone would give.

    HINT says what to do, and LOCATION where in the Scheme it is.  LOG and TAIL, its last
    lines, are there if a build failed, CONSOLE, the console's last lines, if a guest did not
    get ready.
    """

    status: int
    message: str
    hint: str | None = None
    location: Location | None = None
    log: str | UnsetType | None = UNSET
    tail: tuple[str, ...] | UnsetType = UNSET
    console: tuple[str, ...] | UnsetType = UNSET


class Failed(Document, frozen=True, kw_only=True):
    """Of every command, if it failed before there was anything else to tell.

    ERRORS are all those of a configuration, ERROR, the first, among them.
    """

    error: Error
    errors: tuple[Error, ...] | UnsetType = UNSET


class DeclaredMachine(VirtualMachine, frozen=True, kw_only=True):
    """A machine as it is declared; sizes are bytes.  NAME is MACHINE (deprecated)."""

    machine: str


class Checked(Document, frozen=True, kw_only=True):
    """Of ``check``: what the file CONFIG declares; NAME is that of its deployment, or null."""

    config: str
    machines: tuple[DeclaredMachine, ...]
    name: str | None = None
    warnings: tuple[Caution, ...] = ()


class PlannedMachine(_Part, frozen=True, kw_only=True):
    """What deploy would do to a machine, which is declared so in DECLARATION.

    A REFUSAL says why nothing may be done to it, and HINT what to do.  STRATEGY is the way to
    a new operating system, and REASON why it was chosen.  FALLBACK is the generation that comes
    back if the guest does not get ready, DOWNTIME how long (seconds) it was away the last time.
    FOREIGN names devices that are not ours.  BYTES-TO-MOVE is what is to be sent for an
    image, null where that is not known, and TRANSFER how.  NEW-POOL is a pool that is made.
    SYSTEM-CHANGES is what comes, goes and changes with the operating system, as far as that is
    known.
    """

    machine: str
    declaration: VirtualMachine
    effect: Effect
    actions: tuple[Action, ...]
    differences: tuple[Difference, ...]
    refusal: str | None
    hint: str | None
    fallback: int | None
    downtime: float | None
    foreign: tuple[str, ...]
    bytes_to_move: int | None
    transfer: Transfer | None
    strategy: str | None
    reason: str | None
    new_pool: str | None
    system_changes: tuple[SystemChange, ...]


class HypervisorPlan(_Part, frozen=True, kw_only=True):
    """The plan for the hypervisor at URI.

    UNDECLARED are the machines there that belong to DEPLOYMENT, and that CONFIG does not
    declare any more.
    """

    uri: str
    machines: tuple[PlannedMachine, ...]
    config: str | None
    deployment: str | None
    undeclared: tuple[str, ...]


class Planned(Document, frozen=True, kw_only=True):
    """Of ``plan``: one plan for each hypervisor."""

    plans: tuple[HypervisorPlan, ...]


class BuiltMachine(_Named, frozen=True, kw_only=True):
    """IMAGE is the file name of its image, or DERIVATION that of the image's derivation.

    NAME is MACHINE (deprecated).
    """

    image: str | UnsetType = UNSET
    derivation: str | UnsetType = UNSET


class Built(Document, frozen=True, kw_only=True):
    """Of ``build``."""

    machines: tuple[BuiltMachine, ...]


class DefinedMachine(_Named, frozen=True, kw_only=True):
    """XML is the domain XML that deploy would define.  NAME is MACHINE (deprecated)."""

    xml: str


class Defined(Document, frozen=True, kw_only=True):
    """Of ``xml``."""

    machines: tuple[DefinedMachine, ...]


class DeployedMachine(_Named, frozen=True, kw_only=True):
    """What became of a machine; ADDRESSES are those known of it.  NAME is MACHINE (deprecated).

    One that was changed is taken-back if another one failed, with --all-or-nothing.
    """

    outcome: Literal[
        "unchanged", "deployed", "updated", "restarted", "started", "failed", "taken-back"
    ]
    detail: str
    addresses: tuple[str, ...]
    error: Error | None


class UndeclaredMachine(_Named, frozen=True, kw_only=True):
    """A machine at HYPERVISOR that is not declared any more.  NAME is MACHINE (deprecated)."""

    hypervisor: str


class ChangedMachine(_Part, frozen=True, kw_only=True):
    """What was done to a machine; an ERROR says why nothing was."""

    machine: str
    detail: str
    addresses: tuple[str, ...]
    error: Error | UnsetType = UNSET


class Deployed(Document, frozen=True, kw_only=True):
    """Of ``deploy`` and ``rollback``.

    UNDECLARED and REMOVED, by --prune, are those of ``deploy``; an ERROR ended the latter.
    """

    machines: tuple[DeployedMachine, ...]
    undeclared: tuple[UndeclaredMachine, ...] | UnsetType = UNSET
    removed: tuple[ChangedMachine, ...] | UnsetType = UNSET
    error: Error | UnsetType = UNSET


class Changed(Document, frozen=True, kw_only=True):
    """Of ``start``, ``shutdown``, ``reboot``, ``destroy``, ``autostart``, ``undefine``.

    And of ``migrate`` and ``evacuate``.
    """

    machines: tuple[ChangedMachine, ...]


class ComparedMachine(_Named, frozen=True, kw_only=True):
    """How a machine compares with its declaration; DETAIL says what DIFFERENCES do not.

    STATE is null if it is not there, and REASON says why it is in it, if that is worth a word.
    READY: its guest runs, and was seen ready since it was last deployed or started by us.
    FOREIGN names devices that are not ours, IGNORED what differs and counts for nothing.
    GUEST is what its guest runs, INSIDE what that says of itself, null where it says nothing.
    BOOTED is the system that it booted, which it may have named on its console alone.
    STATISTICS is what the machine uses, SPACE how full its pool is, RATES what it uses in a
    second, which is measured with --verbose.  ORIGINS are the generations that are declared,
    deployed, booted and running, and their commits.  NAME is MACHINE (deprecated).
    """

    status: Verdict
    state: State | None
    ready: bool
    generation: int | None
    differences: tuple[Difference, ...]
    foreign: tuple[str, ...]
    detail: str | None
    addresses: tuple[str, ...]
    ignored: tuple[Difference, ...]
    reason: str | None
    uuid: str | None
    label: str | None
    hypervisor: str | None
    guest: GuestSystem
    inside: Inside | None
    booted: str | None
    statistics: Statistics | None
    rates: Rates | None
    space: PoolSpace | None
    deploy: PastDeploy | None
    origins: Origins


class Compared(Document, frozen=True, kw_only=True):
    """Of ``status``."""

    machines: tuple[ComparedMachine, ...]


class ListedMachine(Listed, frozen=True, kw_only=True):
    """A machine; MEMORY is in bytes.  Of what is not ours, GENERATION and LABEL are null.

    NAME is MACHINE (deprecated).
    """

    machine: str


class Machines(Document, frozen=True, kw_only=True):
    """Of ``list``."""

    machines: tuple[ListedMachine, ...]


class Generations(Document, frozen=True, kw_only=True):
    """Of ``generations``."""

    generations: tuple[ListedGeneration, ...]


class MachineGeneration(_Part, frozen=True, kw_only=True):
    """Generation NUMBER of a machine."""

    machine: str
    number: int


class Collected(Document, frozen=True, kw_only=True):
    """Of ``gc``: what was removed, or would be if REMOVED is false; SIZE is its bytes.

    KEPT is what something else uses, COPIES are the throwaway copies, domains, that were left.
    STRAY are root volumes that no machine remembers: they stay.
    GARBAGE is all of that as it was called before
    (deprecated).
    """

    removed: bool
    size: int
    generations: tuple[MachineGeneration, ...]
    volumes: tuple[StoredVolume, ...]
    kept: tuple[Kept, ...]
    copies: tuple[str, ...]
    stray: tuple[StoredVolume, ...]
    garbage: Garbage


Done: TypeAlias = Literal["deleted", "adopted", "forgotten"]


class Volumes(Document, frozen=True, kw_only=True):
    """Of ``volumes``: how they were found, and what was DONE with them, null for a list."""

    volumes: tuple[ListedVolume, ...]
    done: Done | None


class Drawn(Document, frozen=True, kw_only=True):
    """Of ``graph``: what is declared, and what is connected with what."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


class RunningEvaluator(_Part, frozen=True, kw_only=True):
    """An evaluator; MEMORY is in bytes.  Of a BUSY one nothing else is known."""

    pid: int | None
    guix: str | None
    memory: int | None
    busy: bool


class Evaluators(Document, frozen=True, kw_only=True):
    """Of ``evaluator``: those that run, or were STOPPED."""

    stopped: bool
    evaluators: tuple[RunningEvaluator, ...]


# Of each verb that has one.
OF_VERBS: dict[str, type[Document]] = {
    "check": Checked,
    "plan": Planned,
    "build": Built,
    "deploy": Deployed,
    "xml": Defined,
    "status": Compared,
    "generations": Generations,
    "rollback": Deployed,
    "gc": Collected,
    "list": Machines,
    "volumes": Volumes,
    **dict.fromkeys(
        ("start", "shutdown", "reboot", "destroy", "autostart", "undefine", "migrate", "evacuate"),
        Changed,
    ),
    "graph": Drawn,
    "evaluator": Evaluators,
}
