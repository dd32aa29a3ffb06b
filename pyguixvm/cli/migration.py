# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs that move machines from one hypervisor to another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

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
from pyguixvm.commands import evacuate, evaluate, migrate
from pyguixvm.commands.session import Session
from pyguixvm.errors import UsageError
from pyguixvm.guix.configuration import Configuration
from pyguixvm.model.declaration import VirtualMachine

to_option = click.option(
    "--to", metavar="URI", help="Where to, instead of the hypervisor that CONFIG declares."
)

by_option = click.option(
    "--migrate-uri", "by", metavar="URI",
    help="How the one host gets to the other, tcp://ADDRESS, for guests that run.",
)  # fmt: skip


@click.command("migrate")
@config_arguments
@to_option
@by_option
@verify_option
@build_options
@common_options
@click.pass_obj
def migrate_command(
    options: Options, arguments: tuple[str, ...], to: str | None, by: str | None
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
    return report(output, migrate.migrate(here, tuple(dict.fromkeys(names)), declared, to, by))


@click.command("evacuate")
@click.argument("uri")
@click.argument("config", required=False, type=click.Path(path_type=Path))
@to_option
@by_option
@verify_option
@build_options
@common_options
@click.pass_obj
def evacuate_command(
    options: Options, uri: str, config: Path | None, to: str | None, by: str | None
) -> int:
    """Move all machines away from the hypervisor at URI, as migrate does each.

    They go to where CONFIG declares them, or all to the one of --to.  What cannot go, or is
    declared to be there, stays, and is named.
    """
    output = Output(options)
    here = session(options, output)
    declared = _declared(here, config, to)
    done = evacuate.evacuate(here, uri, declared, to, by)
    status = report(output, done)
    if not output.json:
        staying = [each.machine for each in done if each.error is not None]
        named = f", {len(staying)} stay ({', '.join(staying)})" if staying else ""
        output.note(f"{len(done)} machines: {len(done) - len(staying)} moved{named}")
    return status


def _declared(
    here: Session, config: Configuration | None, to: str | None
) -> Sequence[VirtualMachine]:
    """Return what CONFIG declares, or that of this directory; nothing if TO tells enough."""
    if config is None and to is not None:
        return ()
    found = evaluate.evaluate(here, config or Path("config.scm"), want="metadata", build=False)
    return found.machines
