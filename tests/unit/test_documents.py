# SPDX-License-Identifier: GPL-3.0-or-later
"""What --json prints is as doc/json.md says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from declarations import GIB, machine

from pyguixvm.apply.outcome import Outcome
from pyguixvm.cli import as_documents, documents
from pyguixvm.cli.app import _COMMANDS, main
from pyguixvm.cli.documents import OF_VERBS, Document, Failed
from pyguixvm.cli.options import Options
from pyguixvm.cli.output import Output
from pyguixvm.commands.machines import Done
from pyguixvm.errors import BuildError, EvaluationError, NotReadyError
from pyguixvm.model.declaration import Deployment, Location
from pyguixvm.model.difference import Difference
from pyguixvm.model.listed import Listed, ListedGeneration, ListedVolume
from pyguixvm.model.observation import Observation, StoredVolume
from pyguixvm.model.usage import Kept
from pyguixvm.plan.garbage import Garbage
from pyguixvm.plan.graph import graph
from pyguixvm.plan.planner import plan
from pyguixvm.plan.status import MachineStatus

NOWHERE = Observation(uri="test:///default", local=True, domains={})
LATE = NotReadyError("late", console=("login:",), hint="wait")


def declared() -> Document:
    return as_documents.checked(Deployment(schema=1, config="/a.scm", machines=(machine(),)))


def planned() -> Document:
    return documents.Planned(plans=(as_documents.plan(plan([machine()], NOWHERE)),))


def built() -> Document:
    return documents.Built(machines=(documents.BuiltMachine(machine="web", image="/gnu/store/x"),))


def defined() -> Document:
    return documents.Defined(machines=(documents.DefinedMachine(machine="web", xml="<domain/>"),))


def deployed() -> Document:
    outcomes = (Outcome("web", "unchanged"), Outcome("db", "failed", error=LATE))
    return documents.Deployed(
        machines=tuple(map(as_documents.deployed, outcomes)),
        undeclared=(documents.UndeclaredMachine(machine="old", hypervisor="test:///default"),),
        removed=(as_documents.changed(Done("old", "removed")),),
        error=as_documents.error(BuildError("no", log="/log", tail=("x",))),
    )


def compared() -> Document:
    drifted = MachineStatus(
        name="web",
        status="drifted",
        state="running",
        generation=2,
        differences=(Difference("domain.memory", GIB, 2 * GIB, "live"),),
    )
    found = (drifted, MachineStatus(name="db", status="missing"))
    return documents.Compared(machines=tuple(map(as_documents.compared, found)))


def generations() -> Document:
    found = ListedGeneration(
        machine="web", number=1, date="2026-01-01T00:00:00+00:00", current=True, failed=False,
        label="GNU", kernel=None, image="/gnu/store/x", pool="default", volume="pyguixvm-web.g1",
        base=None, size=None, increment=None, under=(), downtime=None, provenance=None,
    )  # fmt: skip
    return documents.Generations(generations=(found,))


def collected() -> Document:
    garbage = Garbage(
        generations=(("web", 1),),
        volumes=(StoredVolume("default", "pyguixvm-web.g1", GIB, whole=True),),
        kept=(Kept("default", "x", "somebody uses it"),),
    )
    return as_documents.collected(garbage, removed=False)


def data_volumes() -> Document:
    found = ListedVolume(
        pool="default", volume="pyguixvm-web.db.qcow2", machine="web", disk="db", uuid=None,
        deployment="infra", size=GIB, allocation=GIB, file_system="ext4", state="kept", detail=None,
    )  # fmt: skip
    return documents.Volumes(volumes=(found,), done=None)


def listed() -> Document:
    ours = Listed("web", "running", 1, GIB, True, 1, "GNU", ("192.0.2.1",))
    return documents.Machines(machines=(as_documents.listed(ours),))


def changed() -> Document:
    done = (Done("web", "started"), Done("db", "failed", error=LATE))
    return documents.Changed(machines=tuple(map(as_documents.changed, done)))


def evaluators() -> Document:
    idle = documents.RunningEvaluator(pid=1, guix="/g/guix", memory=GIB, busy=False)
    busy = documents.RunningEvaluator(pid=None, guix=None, memory=None, busy=True)
    return documents.Evaluators(stopped=False, evaluators=(idle, busy))


def drawn() -> Document:
    found = graph([machine()], "qemu:///system")
    return documents.Drawn(nodes=found.nodes, edges=found.edges)


EXAMPLES = {
    "check": declared, "plan": planned, "build": built, "deploy": deployed, "xml": defined,
    "status": compared, "generations": generations, "rollback": deployed, "gc": collected,
    "volumes": data_volumes, "list": listed,
    "start": changed, "shutdown": changed, "reboot": changed, "destroy": changed,
    "autostart": changed, "undefine": changed, "migrate": changed, "evacuate": changed,
    "evaluator": evaluators, "graph": drawn,
}  # fmt: skip


# They go on, or become another program.
WITHOUT = {"watch", "console", "exporter", "ssh", "cp", "repl"}


def test_every_verb_says_what_it_prints() -> None:
    assert OF_VERBS.keys() == EXAMPLES.keys() == _COMMANDS.keys() - WITHOUT


@pytest.mark.parametrize("verb", EXAMPLES)
def test_what_a_verb_prints_is_its_document(
    verb: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    document = EXAMPLES[verb]()
    Output(Options(json=True)).document(document)
    printed = capfdbinary.readouterr().out
    assert msgspec.json.decode(printed, type=OF_VERBS[verb], strict=True) == document
    named = [each for each in machines(json.loads(printed)) if "name" in each]
    assert all(each["name"] == each["machine"] for each in named)


def machines(value: Any) -> list[dict[str, Any]]:
    """Return each object in VALUE that is about a machine, apart from declarations."""
    if isinstance(value, list):
        return [found for item in value for found in machines(item)]
    if not isinstance(value, dict):
        return []
    own = [value] if "machine" in value else []
    return own + machines([item for key, item in value.items() if key != "declaration"])


@pytest.mark.parametrize("verb", [*OF_VERBS, "watch"])
def test_a_wrong_call_is_a_document(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--json", "--frobnicate"]) == 2
    found = json.loads(capsys.readouterr().out)
    if verb != "watch":
        assert msgspec.convert(found, Failed).error.status == 2
    assert (found["schema"], found["error"]["location"]) == (2, None)


def test_a_place_is_an_object_wherever_it_is() -> None:
    error = EvaluationError("no", location=str(Location("C:/a:b.scm", 3, 0)))
    assert as_documents.error(error).location == Location("C:/a:b.scm", 3, 0)


def test_the_schema_has_every_document() -> None:
    schema = json.loads((Path(__file__).parents[2] / "doc/json-schema.json").read_text())
    reached = {each["$ref"].rpartition("/")[2] for each in schema["anyOf"]}
    assert reached <= schema["$defs"].keys()
    assert {each.__name__ for each in OF_VERBS.values()} <= reached
