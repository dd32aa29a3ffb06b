# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs that bring about what a configuration declares: plan, deploy."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pyguixvm.advice import mended_at
from pyguixvm.cli.build_options import build_options
from pyguixvm.cli.here import session
from pyguixvm.cli.options import (
    Options,
    Trying,
    common_options,
    config_arguments,
    jobs_option,
    on_option,
    order_options,
    policy_options,
    split_config,
    trial_option,
    verify_option,
    via_option,
)
from pyguixvm.cli.output import Output, gravest
from pyguixvm.cli.safepoints import heeded
from pyguixvm.cli.show import plan_lines
from pyguixvm.commands import deploy, evaluate, planning
from pyguixvm.commands.addresses import with_addresses
from pyguixvm.commands.ancestry import Commits
from pyguixvm.commands.foresight import examined
from pyguixvm.commands.session import Session
from pyguixvm.errors import (
    InterruptedRequestError,
    PyguixvmError,
    RequestRefusedError,
    UsageError,
)
from pyguixvm.events import Notice
from pyguixvm.guix.configuration import Configuration, Expression
from pyguixvm.model.declaration import Deployment
from pyguixvm.plan.order import Order
from pyguixvm.plan.plan import CHANGING_GUESTS, Policy, Trial

if TYPE_CHECKING:
    from pyguixvm.apply.outcome import Outcome
    from pyguixvm.commands.machines import Done

DIFFERENCES_FOUND = 8
_ALL_AT_ONCE = Order()


def evaluated(
    here: Session,
    config: Configuration,
    machines: Sequence[str],
    policy: Policy,
    *,
    tags: Sequence[str] = (),
    build: bool = True,
) -> Deployment:
    """Return what CONFIG declares, as it is to be planned by POLICY; BUILD what grafts take.

    If there are any MACHINES or TAGS, it is of these.
    """
    return evaluate.evaluate(
        here,
        config,
        machines,
        want="images",
        tags=tags,
        shared_store=policy.strategy == "shared-store",
        build=build,
    )


def observed(
    here: Session, config: Configuration, deployment: Deployment, policy: Policy, *, whole: bool
) -> AbstractContextManager[tuple[planning.Sight, ...]]:
    """Connect to the hypervisors of DEPLOYMENT, which CONFIG declares, as a WHOLE or in part."""
    # What 'guix deploy' hands over lies elsewhere than the file that was evaluated.
    asked = config if isinstance(config, Expression) else Path(deployment.config)
    return planning.observed(
        here,
        deployment.machines,
        policy=policy,
        config=deployment.config if whole else None,
        deployment=deployment.name,
        hypervisors=deployment.hypervisors,
        commits=Commits(here, asked, deployment.provenance),
    )


@click.command("plan")
@config_arguments
@click.option("--exit-code", is_flag=True, help="Exit with 8 if there is anything to do.")
@on_option
@policy_options
@via_option
@build_options
@common_options
@click.pass_obj
def plan_command(
    options: Options,
    arguments: tuple[str, ...],
    *,
    exit_code: bool,
    tags: tuple[str, ...],
    policy: Policy,
) -> int:
    """Show what deploy would do, without doing it.

    The exit status is 1 if deploy would refuse a machine, as far as that can be known
    before anything is built.
    """
    output = Output(options)
    here = session(options, output)
    config, machines = split_config(options, arguments)
    whole = not machines and not tags
    with here.connecting():
        deployment = evaluated(here, config, machines, policy, tags=tags, build=False)
        with observed(here, config, deployment, policy, whole=whole) as planned:
            plans = [examined(here, each) for each in planned]
            lost = {each.error.status for each in planned if isinstance(each, planning.Unreached)}
    if output.json:
        from pyguixvm.cli import as_documents, documents  # slow to load

        output.document(documents.Planned(plans=tuple(map(as_documents.plan, plans))))
    else:
        for plan in plans:
            for line in plan_lines(plan, output.paint):
                output.diff(line)
    refused = any(machine.refusal for plan in plans for machine in plan.machines)
    if lost or refused:
        return gravest({*lost, RequestRefusedError.status})
    empty = all(plan.empty for plan in plans)
    return DIFFERENCES_FOUND if exit_code and not empty else 0


@click.command("deploy", cls=Trying)
@config_arguments
@on_option
@policy_options
@trial_option
@verify_option
@via_option
@jobs_option
@order_options
@click.option(
    "--prune",
    is_flag=True,
    help="Remove machines of the deployment, which needs a name, that it declares no more.",
)
@click.option("--yes", "-y", is_flag=True, help="Do not ask before --prune removes.")
@build_options
@common_options
@click.pass_obj
def deploy_command(
    options: Options,
    arguments: tuple[str, ...],
    policy: Policy,
    *,
    tags: tuple[str, ...],
    trial: Trial | None,
    jobs: int,
    order: Order,
    prune: bool,
    yes: bool,
) -> int:
    """Make the hypervisor match CONFIG with the smallest safe change.

    A new machine is built, defined and started; a running one is changed live
    where that is possible, else restarted.  A new operating system is built while
    the old one runs; if it does not get ready, the old one comes back.  Machines are
    changed side by side, each after those that it requires.
    """
    output = Output(options)
    require_triable(policy, trial=trial)
    if prune and output.json and not yes:
        raise UsageError(
            "--prune asks before it removes anything, and --json is for programs",
            hint="Give --yes if you are sure.",
        )
    here = session(options, output)
    with heeded(here.emit) as interruption:
        here = dataclasses.replace(here, interruption=interruption)
        outcomes, undeclared = deploy_once(
            here,
            *split_config(options, arguments),
            policy,
            tags=tags,
            trial=trial,
            jobs=jobs,
            order=order,
            prune=prune,
        )
        if not output.json:
            output.outcomes(outcomes)
    removed: tuple[Done, ...] = ()
    error: PyguixvmError | None = None
    if undeclared and prune:
        try:
            removed = _prune(options, output, undeclared, yes=yes, unprotect=policy.unprotect)
        except InterruptedRequestError:
            raise
        except PyguixvmError as failure:
            # How the deployment went is not to be forgotten over it.
            error = output.mended(failure)
    elif undeclared:
        names = ", ".join(name for _, name in undeclared)
        way = output.told("'pyguixvm deploy --prune' removes them")
        output.note(f"no longer declared: {names}; {way}")
    if output.json:
        from pyguixvm.cli import as_documents, documents  # slow to load

        output.outcomes(
            outcomes,
            undeclared=tuple(
                documents.UndeclaredMachine(machine=name, hypervisor=uri)
                for uri, name in undeclared
            ),
            removed=tuple(map(as_documents.changed, removed)),
            **({"error": as_documents.error(error)} if error else {}),
        )
    elif error is not None:
        output.error(error)
    return gravest({status_of(outcomes), error.status if error else 0})


def require_triable(policy: Policy, *, trial: Trial | None) -> None:
    """Raise UsageError if a TRIAL is asked for that POLICY makes impossible."""
    if trial and policy.strategy in CHANGING_GUESTS:
        raise UsageError(
            f"--test and --strategy {policy.strategy} exclude each other: a copy gets a root of "
            "its own",
            hint="Leave one of them out.",
        )


def deploy_once(
    here: Session,
    config: Configuration,
    machines: Sequence[str],
    policy: Policy,
    *,
    tags: Sequence[str] = (),
    trial: Trial | None = None,
    jobs: int = deploy.JOBS,
    order: Order = _ALL_AT_ONCE,
    prune: bool = False,
) -> tuple[tuple[Outcome, ...], list[tuple[str, str]]]:
    """Deploy MACHINES of CONFIG and those with TAGS, or all, JOBS at once in ORDER.

    With TRIAL, new roots are tried in throwaway copies first.

    Return how it went, and hypervisor and name of the machines that are no
    longer declared.  Raises RequestRefusedError, and nothing was touched, if it is to
    PRUNE them and cannot know which those are.
    """
    whole = not machines and not tags
    with here.connecting():
        deployment = evaluated(here, config, machines, policy, tags=tags)
        if prune and deployment.name is None:
            raise RequestRefusedError(
                f"--prune removes machines of a deployment, and the one in {config} has no name",
                hint='Let the file end in (deployment (name "…") (machines …)), and deploy it: '
                "from then on its machines are known as that deployment's.",
            )
        with observed(here, config, deployment, policy, whole=whole) as planned:
            done = deploy.deploy(
                here,
                config,
                planned,
                provenance=deployment.provenance,
                trial=trial,
                jobs=jobs,
                order=order,
            )
            outcomes = with_addresses(planned, done)
    undeclared = [(each.plan.uri, name) for each in planned for name in each.plan.undeclared]
    for each in planned:
        if prune and isinstance(each, planning.Unreached):
            text = f"nothing is removed from {each.plan.uri}: nobody knows what is there"
            here.emit(Notice(text, warning=True))
    return outcomes, undeclared


def status_of(outcomes: Sequence[Outcome]) -> int:
    """Return the exit status that stands for all of OUTCOMES."""
    return gravest({outcome.status for outcome in outcomes})


def _prune(
    options: Options,
    output: Output,
    undeclared: list[tuple[str, str]],
    *,
    yes: bool,
    unprotect: bool,
) -> tuple[Done, ...]:
    """Remove the machines that are UNDECLARED; return what became of each."""
    from pyguixvm.cli.confirmation import confirm_removals
    from pyguixvm.commands import undefine

    removed: list[Done] = []
    for uri in dict.fromkeys(uri for uri, _ in undeclared):
        here = dataclasses.replace(session(options, output), uri=uri)
        theirs = [name for at, name in undeclared if at == uri]
        with mended_at(uri):
            removals = undefine.removals(here, theirs, keep_volumes=False, unprotect=unprotect)
            if not yes:
                confirm_removals("deploy --prune", removals)
            for done in undefine.undefine(here, removals):
                removed.append(done)
                output.note(f"{done.machine}: {done.detail}")
    return tuple(removed)
