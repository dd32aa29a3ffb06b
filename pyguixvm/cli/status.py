# SPDX-License-Identifier: GPL-3.0-or-later
"""The verb that compares: status."""

from __future__ import annotations

from collections.abc import Iterator

import click

from pyguixvm.cli import as_documents, documents
from pyguixvm.cli.build_options import build_options
from pyguixvm.cli.declaration import DIFFERENCES_FOUND, session
from pyguixvm.cli.differences import difference_lines
from pyguixvm.cli.options import (
    Options,
    common_options,
    config_arguments,
    names_config,
    split_config,
)
from pyguixvm.cli.output import Output
from pyguixvm.commands import evaluate, status
from pyguixvm.errors import HypervisorError
from pyguixvm.plan.status import MachineStatus
from pyguixvm.printable import printable

_SIGNS = {
    "deployed": " ",
    "drifted": "~",
    "pending restart": "~",
    "not seen ready": "~",
    "stopped": "~",
}


@click.command("status")
@config_arguments
@click.option("--exit-code", is_flag=True, help="Exit with 8 unless all is deployed as declared.")
@build_options
@common_options
@click.pass_obj
def status_command(options: Options, arguments: tuple[str, ...], exit_code: bool) -> int:
    """Tell whether machines are deployed, and what differs from their declaration.

    With CONFIG, its machines are compared with what it declares now.  Without it,
    every machine that pyguixvm deployed, or each MACHINE, with what was applied.
    """
    output = Output(options)
    here = session(options, output)
    if names_config(arguments):
        config, machines = split_config(arguments)
        deployment = evaluate.evaluate(here, config, machines, want="images", build=False)
        found = status.statuses(
            here, deployment.machines, None if machines else deployment.config, deployment.name
        )
    else:
        found = status.applied_statuses(here, arguments)
    if output.json:
        output.document(documents.Compared(machines=tuple(map(as_documents.compared, found))))
    elif not found:
        output.no_machines(here)
    else:
        for machine in found:
            for line in _lines(machine, output):
                output.diff(line)
    if any(machine.status == "unreachable" for machine in found):
        return HypervisorError.status
    clean = all(machine.status == "deployed" for machine in found)
    return DIFFERENCES_FOUND if exit_code and not clean else 0


def _lines(machine: MachineStatus, output: Output) -> Iterator[str]:
    generation = f", generation {machine.generation}" if machine.generation else ""
    if machine.status in {"drifted", "pending restart"} and machine.state == "shut off":
        generation += ", shut off"
    generation += "".join(f", {printable(address)}" for address in machine.addresses)
    detail = f": {printable(machine.detail)}" if machine.detail else ""
    sign, name = _SIGNS.get(machine.status, "x"), printable(machine.name)
    yield f"{sign} {name}: {machine.status}{generation}{detail}"
    for line in difference_lines(machine.differences, output.paint):
        yield f"    {line}"
    for device in machine.foreign:
        yield f"    {printable(device)}: not ours"
