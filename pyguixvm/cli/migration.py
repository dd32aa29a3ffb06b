# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs that move machines from one hypervisor to another."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from pyguixvm.cli.build_options import build_options
from pyguixvm.cli.here import session
from pyguixvm.cli.machines import report
from pyguixvm.cli.options import (
    Options,
    common_options,
    config_arguments,
    names_config,
    split_config,
    verify_option,
)
from pyguixvm.cli.output import Output
from pyguixvm.cli.safepoints import heeded
from pyguixvm.commands import evacuate, evaluate, migrate
from pyguixvm.commands.deploy import JOBS
from pyguixvm.commands.session import Session
from pyguixvm.errors import UsageError
from pyguixvm.guix.configuration import Configuration
from pyguixvm.hypervisor.migration import Line
from pyguixvm.model.declaration import VirtualMachine

to_option = click.option(
    "--to", metavar="URI", help="Where to, instead of the hypervisor that CONFIG declares."
)

jobs_option = click.option(
    "--jobs", "-j", type=click.IntRange(min=1), default=JOBS, show_default=True,
    metavar="N", help="Move so many machines at once.",
)  # fmt: skip


def line_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give COMMAND the options that say how guests that run get from host to host, as its LINE."""

    @functools.wraps(command)
    def with_line(*arguments: Any, by: str | None, encrypted: bool, **others: Any) -> Any:
        return command(*arguments, line=Line(by, encrypted), **others)

    decorated: Callable[..., Any] = with_line
    for decorate in (
        click.option("--tls", "encrypted", is_flag=True,
                     help="Move guests that run by TLS, or not at all; else they go in the clear, "
                     "with a warning, where a host has no certificates."),
        click.option("--migrate-uri", "by", metavar="URI",
                     help="How the one host gets to the other, tcp://ADDRESS, for guests that "
                     "run."),
    ):  # fmt: skip
        decorated = decorate(decorated)
    return decorated


@click.command("migrate")
@config_arguments
@to_option
@line_options
@verify_option
@build_options
@common_options
@click.pass_obj
def migrate_command(
    options: Options, arguments: tuple[str, ...], to: str | None, line: Line
) -> int:
    """Move machines from where they are to the hypervisor that CONFIG declares.

    They are looked for on all hypervisors of CONFIG, and on that of --connect; with --to,
    no CONFIG is needed.  All generations and data disks go with a machine, by way of this
    computer.  A guest that runs goes on: libvirt moves it, from host to host, with what it
    writes to.  Whatever ends this half-way, one copy at most can run, and the same command
    goes on.
    """
    config, names = split_config(options, arguments)
    if not names:
        raise UsageError("migrate takes the machines to move", hint="Name at least one MACHINE.")
    output = Output(options)
    here = session(options, output)
    declared = _declared(here, config if names_config(options, arguments) else None, to)
    return report(output, migrate.migrate(here, tuple(dict.fromkeys(names)), declared, to, line))


@click.command("evacuate")
@click.argument("uri")
@click.argument("config", required=False, type=click.Path(path_type=Path))
@to_option
@line_options
@jobs_option
@verify_option
@build_options
@common_options
@click.pass_obj
def evacuate_command(  # noqa: PLR0917 -- one for each option
    options: Options, uri: str, config: Path | None, to: str | None, line: Line, jobs: int
) -> int:
    """Move all machines away from the hypervisor at URI, as migrate does each.

    They go to where CONFIG declares them, or all to the one of --to.  What cannot go, or is
    declared to be there, stays, and is named.
    """
    output = Output(options)
    here = session(options, output)
    declared = _declared(here, config, to)
    with heeded(here.emit) as interruption:
        here = replace(here, interruption=interruption)
        done = evacuate.evacuate(here, uri, declared, to, line, jobs)
    status = report(output, done)
    if not output.json:
        staying = [each.machine for each in done if each.error is not None]
        verb = "stays" if len(staying) == 1 else "stay"
        named = f", {len(staying)} {verb} ({', '.join(staying)})" if staying else ""
        machines = "machine" if len(done) == 1 else "machines"
        output.note(f"{len(done)} {machines}: {len(done) - len(staying)} moved{named}")
    return status


def _declared(
    here: Session, config: Configuration | None, to: str | None
) -> Sequence[VirtualMachine]:
    """Return what CONFIG declares, or that of this directory; nothing if TO tells enough."""
    if config is None and to is not None:
        return ()
    found = evaluate.evaluate(here, config or Path("config.scm"), want="metadata", build=False)
    return found.machines
