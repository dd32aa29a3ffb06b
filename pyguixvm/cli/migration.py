# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs that move machines from one hypervisor to another."""

from __future__ import annotations

from collections.abc import Sequence

import click

from pyguixvm.cli.build_options import build_options
from pyguixvm.cli.declaration import session
from pyguixvm.cli.machines import report
from pyguixvm.cli.options import (
    Options,
    common_options,
    config_arguments,
    names_config,
    split_config,
)
from pyguixvm.cli.output import Output
from pyguixvm.commands import evaluate, migrate
from pyguixvm.commands.session import Session
from pyguixvm.errors import UsageError
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
    _, names = split_config(arguments)
    if not names:
        raise UsageError("migrate takes the machines to move", hint="Name at least one MACHINE.")
    output = Output(options)
    here = session(options, output)
    declared = _declared(here, arguments, to)
    return report(output, migrate.migrate(here, tuple(dict.fromkeys(names)), declared, to, by))


def _declared(
    here: Session, arguments: tuple[str, ...], to: str | None
) -> Sequence[VirtualMachine]:
    """Return what the configuration among ARGUMENTS declares; nothing if none is needed."""
    if to is not None and not names_config(arguments):
        return ()
    config, _ = split_config(arguments)
    return evaluate.evaluate(here, config, want="metadata", build=False).machines
