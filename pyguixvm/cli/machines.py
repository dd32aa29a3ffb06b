# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs on machines that exist: list, start, console, shutdown and others."""

from __future__ import annotations

import math
import sys
from contextlib import suppress
from typing import Any

import click

from pyguixvm.cli import as_documents, documents
from pyguixvm.cli.confirmation import confirm_removals
from pyguixvm.cli.here import session
from pyguixvm.cli.options import Options, common_options, unprotect_option
from pyguixvm.cli.output import Output, gravest
from pyguixvm.commands import listing, machines, power, undefine
from pyguixvm.errors import PyguixvmError, UsageError
from pyguixvm.model.sizes import format_size


def complete_machine(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[str]:
    """Return our machines with names that begin with INCOMPLETE; none if none can be asked for."""
    options = context.ensure_object(Options)
    with suppress(PyguixvmError):
        listed = listing.listed(session(options, Output(options)), everything=False)
        return [machine.name for machine in listed if machine.name.startswith(incomplete)]
    return []


def _once(
    _context: click.Context, _parameter: click.Parameter, names: tuple[str, ...]
) -> tuple[str, ...]:
    """Return NAMES without repetitions: what is gone cannot be removed again."""
    return tuple(dict.fromkeys(names))


class _Seconds(click.FloatRange):
    """A number of seconds that ends some time, unlike inf and nan."""

    name = "seconds"

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> float:
        seconds = float(super().convert(value, parameter, context))
        if not math.isfinite(seconds):
            self.fail(f"'{value}' is no number of seconds", parameter, context)
        return seconds


machine_arguments = click.argument(
    "machines", nargs=-1, required=True, metavar="MACHINE...", shell_complete=complete_machine,
    callback=_once,
)  # fmt: skip
deadline_option = click.option(
    "--timeout", type=_Seconds(min=1), default=120.0, show_default=True,
    metavar="SECONDS", help="How long to wait.",
)  # fmt: skip


@click.command("list")
@click.option("--all", "everything", is_flag=True, help="Show domains that are not ours, too.")
@common_options
@click.pass_obj
def list_command(options: Options, everything: bool) -> int:
    """List the machines that pyguixvm deployed on the hypervisor."""
    output = Output(options)
    here = session(options, output)
    listed = listing.listed(here, everything=everything)
    if output.json:
        output.document(documents.Machines(machines=tuple(map(as_documents.listed, listed))))
        return 0
    if not listed:
        output.no_machines(here)
        return 0
    output.table(
        ("NAME", "STATE", "CPU", "MEMORY", "AUTOSTART", "GENERATION", "ADDRESS", "SYSTEM"),
        [
            (
                machine.name,
                machine.state,
                str(machine.cpu),
                format_size(machine.memory),
                "on" if machine.autostart else "off",
                str(machine.generation) if machine.generation else "-",
                ",".join(machine.addresses) or "-",
                machine.label or "(not ours)",
            )
            for machine in listed
        ],
    )
    return 0


@click.command("start")
@machine_arguments
@common_options
@click.pass_obj
def start_command(options: Options, machines: tuple[str, ...]) -> int:
    """Start machines and wait until they are ready."""
    output = Output(options)
    return report(output, power.start(session(options, output), machines))


@click.command("console")
@click.argument("machine", shell_complete=complete_machine)
@common_options
@click.pass_obj
def console_command(options: Options, machine: str) -> int:
    """Join this terminal with a guest's serial console; ^] leaves it."""
    output = Output(options)
    output.note(f"The console of {machine}. Leave it with ^] (Control and right bracket).")
    power.console(session(options, output), machine, sys.stdin.fileno(), sys.stdout.fileno())
    return 0


@click.command("shutdown")
@machine_arguments
@deadline_option
@common_options
@click.pass_obj
def shutdown_command(options: Options, machines: tuple[str, ...], timeout: float) -> int:
    """Ask guests to shut down, by agent, else by ACPI, and wait until they have."""
    output = Output(options)
    return report(output, power.shutdown(session(options, output), machines, timeout))


@click.command("reboot")
@machine_arguments
@deadline_option
@common_options
@click.pass_obj
def reboot_command(options: Options, machines: tuple[str, ...], timeout: float) -> int:
    """Ask guests to reboot, by agent, else by ACPI."""
    output = Output(options)
    return report(output, power.reboot(session(options, output), machines, timeout))


@click.command("destroy")
@machine_arguments
@unprotect_option
@common_options
@click.pass_obj
def destroy_command(options: Options, machines: tuple[str, ...], unprotect: bool) -> int:
    """Power machines off at once, as if the plug were pulled; their volumes stay."""
    output = Output(options)
    return report(output, power.destroy(session(options, output), machines, unprotect=unprotect))


@click.command("autostart")
@machine_arguments
@click.option("--on/--off", default=True, help="Whether to start with the host.  [default: on]")
@common_options
@click.pass_obj
def autostart_command(options: Options, machines: tuple[str, ...], on: bool) -> int:
    """Start machines with their host, or not."""
    output = Output(options)
    return report(output, power.autostart(session(options, output), machines, on=on))


@click.command("undefine")
@machine_arguments
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--keep-volumes", is_flag=True, help="Leave the root volumes in their pools.")
@click.option("--delete-data", is_flag=True, help="Delete data disks and ssh host keys as well.")
@unprotect_option
@common_options
@click.pass_obj
def undefine_command(  # noqa: PLR0917 -- one for each option
    options: Options,
    machines: tuple[str, ...],
    yes: bool,
    keep_volumes: bool,
    delete_data: bool,
    unprotect: bool,
) -> int:
    """Remove machines, and their root volumes, for good.

    Data disks stay for the next machine of that name, unless --delete-data is
    given.  A running machine is powered off first.  Asks before it does anything.
    """
    if keep_volumes and delete_data:
        raise UsageError(
            "--keep-volumes and --delete-data contradict each other",
            hint="Give one of them, or neither: then roots go and data stays.",
        )
    output = Output(options)
    here = session(options, output)
    removals = undefine.removals(
        here, machines, keep_volumes=keep_volumes, delete_data=delete_data, unprotect=unprotect
    )
    if not yes:
        confirm_removals("undefine", removals)
    return report(output, undefine.undefine(here, removals))


def report(output: Output, done: tuple[machines.Done, ...]) -> int:
    """Print what became of each machine; return the exit status that stands for all of them."""
    for item in done:
        if item.error is not None:
            output.mended(item.error)
    if output.json:
        output.document(documents.Changed(machines=tuple(map(as_documents.changed, done))))
    else:
        for item in done:
            if item.error is None:
                output.line(f"{item.machine}: {item.detail}")
            else:
                output.error(item.error)
    return gravest({item.error.status for item in done if item.error})
