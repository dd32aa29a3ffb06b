# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs on generations: generations, rollback, gc."""

from __future__ import annotations

import dataclasses
import re
from contextlib import suppress
from datetime import timedelta

import click

from pyguixvm.advice import vol_delete
from pyguixvm.cli import as_documents, documents
from pyguixvm.cli.commits import commits
from pyguixvm.cli.confirmation import confirm
from pyguixvm.cli.declaration import status_of
from pyguixvm.cli.here import session
from pyguixvm.cli.machines import complete_machine
from pyguixvm.cli.options import Options, common_options, force_options, unprotect_option
from pyguixvm.cli.output import Output
from pyguixvm.cli.safepoints import heeded
from pyguixvm.commands import garbage, generations, rollback
from pyguixvm.errors import PyguixvmError
from pyguixvm.model.listed import ListedGeneration
from pyguixvm.model.sizes import format_size
from pyguixvm.plan.plan import Policy

_AGE = re.compile(r"(?P<count>[0-9]+)(?P<unit>[mhdw])")
# Longer than anything can be old, and what dates can still be reckoned with.
_LONGEST = timedelta(days=365 * 1000)
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class _Age(click.ParamType[timedelta]):
    """A time span as people write it: 30m, 12h, 7d, 2w."""

    name = "age"

    def convert(
        self, value: object, parameter: click.Parameter | None, context: click.Context | None
    ) -> timedelta:
        if isinstance(value, timedelta):
            return value
        found = _AGE.fullmatch(str(value))
        if found is None:
            self.fail(
                f"'{value}' is no age; write minutes, hours, days or weeks: 30m, 12h, 7d, 2w",
                parameter,
                context,
            )
        age = None
        with suppress(OverflowError):
            age = timedelta(**{_UNITS[found["unit"]]: int(found["count"])})
        if age is None or age > _LONGEST:
            self.fail(f"'{value}' is longer ago than a thousand years", parameter, context)
        return age


@click.command("generations")
@click.argument("machines", nargs=-1, metavar="[MACHINE]...", shell_complete=complete_machine)
@common_options
@click.pass_obj
def generations_command(options: Options, machines: tuple[str, ...]) -> int:
    """List the generations of machines; the current one is marked with *."""
    output = Output(options)
    here = session(options, output)
    found = generations.generations(here, machines)
    if output.json:
        output.document(documents.Generations(generations=found))
        return 0
    if not found:
        output.no_machines(here)
        return 0
    output.table(
        (
            "MACHINE",
            "GENERATION",
            "DATE",
            "SIZE",
            "CHANGED",
            "AWAY",
            "SYSTEM",
            "KERNEL",
            "COMMITS",
            "VOLUME",
            "IMAGE",
        ),
        [
            (
                generation.machine,
                f"{generation.number}{_mark(generation)}",
                generation.date,
                "gone" if generation.size is None else format_size(generation.size),
                "-" if generation.increment is None else format_size(generation.increment),
                "-" if generation.downtime is None else f"{generation.downtime:.1f} s",
                generation.label,
                generation.kernel or "-",
                commits(generation.provenance),
                f"{generation.pool}/{generation.volume}",
                generation.image,
            )
            for generation in found
        ],
    )
    return 0


def _mark(generation: ListedGeneration) -> str:
    return "*" if generation.current else " failed" if generation.failed else ""


def _complete_number(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[str]:
    """Return the numbers of the machine's generations that can be returned to."""
    options = context.ensure_object(Options)
    with suppress(PyguixvmError):
        here = session(options, Output(options))
        found = generations.generations(here, (context.params["machine"],))
        numbers = [str(each.number) for each in found if not each.current]
        return [number for number in numbers if number.startswith(incomplete)]
    return []


@click.command("rollback")
@click.argument("machine", shell_complete=complete_machine)
@click.argument(
    "number",
    type=click.IntRange(min=1),
    required=False,
    metavar="[GENERATION]",
    shell_complete=_complete_number,
)
@force_options
@unprotect_option
@common_options
@click.pass_obj
def rollback_command(
    options: Options,
    machine: str,
    number: int | None,
    *,
    force: bool,
    stop_timeout: int | None,
    unprotect: bool,
) -> int:
    """Return MACHINE to an earlier generation, by default the one before the current.

    Its definition and its root volume are those of then.
    """
    output = Output(options)
    here = session(options, output)
    policy = Policy(force=force, unprotect=unprotect, stop_timeout=stop_timeout)
    with heeded(here.emit) as interruption:
        here = dataclasses.replace(here, interruption=interruption)
        outcome = rollback.roll_back(here, machine, number, policy)
    output.outcomes((outcome,))
    return status_of((outcome,))


@click.command("gc")
@click.option(
    "--keep",
    type=click.IntRange(min=0),
    default=2,
    show_default=True,
    metavar="N",
    help="How many generations of each machine stay.",
)
@click.option(
    "--older-than",
    type=_Age(),
    default="0m",
    metavar="AGE",
    help="Remove only generations older than 30m, 12h, 7d, 2w.",
)
@click.option("--dry-run", "-n", is_flag=True, help="Show what would be removed.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@common_options
@click.pass_obj
def gc_command(
    options: Options, keep: int, older_than: timedelta, dry_run: bool, yes: bool
) -> int:  # fmt: skip
    """Remove generations, volumes and base images that nothing needs any more.

    The current generation of a machine and the one before it always stay. Throwaway copies of
    a 'deploy --test' that was killed go, too.
    """
    output = Output(options)
    here = session(options, output)
    found = garbage.unneeded(here, keep=keep, older_than=older_than)
    empty = not (found.generations or found.volumes or found.copies)
    if not output.json:
        for copy in found.copies:
            output.line(f"- {copy}: a throwaway copy that was left")
        for name, number in found.generations:
            output.line(f"- {name}: generation {number}")
        for volume in found.volumes:
            output.line(f"- {volume.pool}/{volume.name}: {format_size(volume.allocation)}")
        for kept in found.kept:
            output.line(f"  {kept.pool}/{kept}")
        for volume in found.stray:
            way = f"virsh {vol_delete(volume.pool, volume.name)}"
            output.line(
                f"  {volume.pool}/{volume.name} stays: no machine remembers it; if nobody needs "
                f"it: {output.told(way)}"
            )
        output.line("nothing to remove" if empty else f"frees {format_size(found.size)}")
    if empty and not dry_run:
        garbage.release_unused(here)
    elif not dry_run:
        if not yes:
            confirm("gc")
        found = garbage.collect(here, keep=keep, older_than=older_than, agreed=found)
    if output.json:
        output.document(as_documents.collected(found, removed=not dry_run))
    return 0
