# SPDX-License-Identifier: GPL-3.0-or-later
"""What a configuration declares."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

from pyguixvm.commands.session import Session
from pyguixvm.errors import UsageError
from pyguixvm.events import BuildOutput, DependenciesFound, Notice, phase
from pyguixvm.guix.configuration import Configuration
from pyguixvm.guix.evaluator import Want, decode
from pyguixvm.guix.evaluator import evaluate as ask_for_evaluation
from pyguixvm.guix.log import Lines
from pyguixvm.model.declaration import Deployment, VirtualMachine
from pyguixvm.model.image import RemoteImage
from pyguixvm.plan.readiness import pattern_errors

# What 'guix deploy' has evaluated itself, see guix/pyguixvm/machine/libvirt.scm.
_EVALUATED = ".json"


def evaluate(
    session: Session,
    config: Configuration,
    machines: Sequence[str] = (),
    *,
    want: Want,
    tags: Sequence[str] = (),
    shared_store: bool = False,
    build: bool = True,
) -> Deployment:
    """Return what CONFIG declares, of MACHINES and those with TAGS only if any are named.

    SHARED_STORE: as machines are that run from the store of their host.  What grafts take is
    built only if BUILD.
    Raises UsageError if there is no such file, EvaluationError if it is refused.
    """
    if isinstance(config, Path):
        _require_file(config)
        if config.suffix == _EVALUATED:
            return _placed(session, checked(decode(config.read_bytes())))
    exchange = session.exchange()
    with phase(session.emit, "evaluate", detail=str(config)) as result, ExitStack() as shown:
        said = _Said(session, shown)
        deployment = ask_for_evaluation(
            exchange,
            config,
            want=want,
            machines=machines,
            tags=tags,
            shared_store=shared_store,
            build=build,
            building=said.building,
            sharing=session.sharing,
            forward=said.take,
            depends=lambda files: session.emit(DependenciesFound(files)),
        )
        checked(deployment)
        result.detail = f"{config}, {_count(deployment.machines)}"
    for caution in deployment.warnings:
        session.emit(Notice(str(caution), warning=True))
    return _placed(session, deployment)


def _placed(session: Session, deployment: Deployment) -> Deployment:
    """Return DEPLOYMENT such that it is known where images are that are fetched."""
    directory = session.state_directory / "images"

    def placed(machine: VirtualMachine) -> VirtualMachine:
        if not isinstance(machine.image, RemoteImage):
            return machine
        path = str(directory / machine.image.sha256)
        image = msgspec.structs.replace(machine.image, path=path)
        return msgspec.structs.replace(machine, image=image)

    machines = tuple(map(placed, deployment.machines))
    return msgspec.structs.replace(deployment, machines=machines)


def _require_file(config: Path) -> None:
    if config.is_dir():
        raise UsageError(
            f"{config} is a directory", hint="Name the file in it that declares machines."
        )
    if not config.is_file():
        raise UsageError(
            f"there is no configuration {config}",
            hint="Give its name, or go to the directory of a config.scm.",
        )


def checked(deployment: Deployment) -> Deployment:
    """Return DEPLOYMENT; raises EvaluationError if what it declares cannot be."""
    errors = [error for each in deployment.machines for error in pattern_errors(each)]
    if errors:
        errors[0].others = tuple(errors[1:])
        raise errors[0]
    return deployment


class _Said:
    """What is written to standard error: at first by the configuration, then by builders.

    From then on the evaluation is shown as a build, which ends with SHOWN.
    """

    def __init__(self, session: Session, shown: ExitStack) -> None:
        self._session = session
        self._shown = shown
        self._take = session.forward

    def building(self) -> None:
        """Guix begins to build or fetch something."""
        emit = self._session.emit
        lines = Lines(lambda line: emit(BuildOutput(line=line)))
        self._shown.enter_context(phase(emit, "build", detail="what grafts take"))
        self._shown.callback(lines.finish)
        self._take = lines.take

    def take(self, data: bytes) -> None:
        """Show DATA."""
        self._take(data)


def _count(machines: Sequence[VirtualMachine]) -> str:
    return "1 machine" if len(machines) == 1 else f"{len(machines)} machines"
