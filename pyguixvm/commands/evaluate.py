# SPDX-License-Identifier: GPL-3.0-or-later
"""What a configuration declares."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pyguixvm.commands.session import Session
from pyguixvm.errors import UsageError
from pyguixvm.events import DependenciesFound, Notice, phase
from pyguixvm.guix.evaluator import Want
from pyguixvm.guix.evaluator import evaluate as ask_for_evaluation
from pyguixvm.model.declaration import (
    Deployment,
    VirtualMachine,
)
from pyguixvm.model.limits import check_storage
from pyguixvm.plan.readiness import check_patterns


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
