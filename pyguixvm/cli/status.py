# SPDX-License-Identifier: GPL-3.0-or-later
"""The verb that compares: status."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import click

from pyguixvm import process
from pyguixvm.cli import as_documents, documents
from pyguixvm.cli.build_options import build_options
from pyguixvm.cli.declaration import DIFFERENCES_FOUND
from pyguixvm.cli.here import session
from pyguixvm.cli.options import (
    Options,
    common_options,
    config_arguments,
    names_config,
    on_option,
    split_config,
)
from pyguixvm.cli.output import Output
from pyguixvm.cli.status_lines import status_lines
from pyguixvm.commands import evaluate, status
from pyguixvm.commands.session import Session
from pyguixvm.commands.status import Asked, Sighted
from pyguixvm.commands.status_watch import Look, looks
from pyguixvm.errors import HypervisorError, UsageError
from pyguixvm.plan.rates import Rates
from pyguixvm.plan.status import MachineStatus
from pyguixvm.printable import printable

# Clear the terminal, and begin at its top.
_CLEAR = "\x1b[H\x1b[2J"


@click.command("status")
@config_arguments
@on_option
@click.option("--exit-code", is_flag=True, help="Exit with 8 unless all is deployed as declared.")
@build_options
@click.option("--ignore", multiple=True, metavar="PATH",
              help="Do not mind what differs at PATH (domain.memory) or below it (may be "
              "repeated).")  # fmt: skip
@click.option("--watch", is_flag=True, help="Go on, and show what changes, until Control-C.")
@click.option(
    "--on-change",
    metavar="COMMAND",
    help="With --watch, have the shell run COMMAND for each machine that changes.",
)
@click.option(
    "--prometheus",
    is_flag=True,
    help="Print metrics, for a file in node_exporter's textfile directory.",
)
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a page to FILE as well.",
)
@common_options
@click.pass_obj
def status_command(
    options: Options,
    arguments: tuple[str, ...],
    *,
    tags: tuple[str, ...],
    exit_code: bool,
    ignore: tuple[str, ...],
    watch: bool,
    on_change: str | None,
    prometheus: bool,
    html: Path | None,
) -> int:
    """Tell whether machines are deployed, and what differs from their declaration.

    With CONFIG, its machines are compared with what it declares now.  Without it,
    every machine that pyguixvm deployed, or each MACHINE, with what was applied.  What
    a guest runs is asked of its agent.  --verbose tells also what machines use.

    A connection that may only look (-c 'qemu:///system?ro') needs no rights; guests'
    agents cannot be asked by it.

    COMMAND finds PYGUIXVM_MACHINE, PYGUIXVM_STATUS, PYGUIXVM_BEFORE (what it was) and
    PYGUIXVM_MESSAGE in its environment.
    """
    if on_change is not None and not watch:
        raise UsageError("--on-change goes with --watch", hint="Give both.")
    if prometheus and options.json:
        raise UsageError("--prometheus and --json exclude each other", hint="Give one of them.")
    output = Output(options)
    here = session(options, output)
    evaluates = bool(tags) or names_config(options, arguments)
    with here.connecting() if evaluates and not watch else nullcontext():
        asked = _asked(here, options, arguments, ignore, tags)
        if watch:
            _watch(here, asked, output, options, on_change)
        sighted = status.sighted(here, asked)
    found = tuple(machine for each in sighted for machine in each.statuses)
    if html is not None:
        _write(html, sighted)
    measured = status.measured(here, asked, found) if options.verbosity > 0 else {}
    if prometheus:
        output.verbatim(_metrics(sighted))
    elif output.json:
        output.document(_document(found, measured))
    elif not found:
        output.no_machines(here)
    else:
        _show(found, measured, output, options)
    if any(machine.status == "unreachable" for machine in found):
        return HypervisorError.status
    clean = all(machine.status == "deployed" for machine in found)
    return DIFFERENCES_FOUND if exit_code and not clean else 0


def _metrics(sighted: Sequence[Sighted]) -> str:
    from pyguixvm.exporter.metrics import exposition
    from pyguixvm.exporter.once import view_of

    now = time.time()
    begun = [each.observation.begun for each in sighted if each.observation]
    return exposition(view_of(sighted, now), now, now - min(begun, default=now)).decode()


def _write(file: Path, sighted: Sequence[Sighted]) -> None:
    """Write a page of what was SIGHTED to FILE, which is whole at any time."""
    from pyguixvm.exporter.once import no_history, view_of
    from pyguixvm.exporter.page import static_page
    from pyguixvm.exporter.server import packaged

    now = time.time()
    text = static_page(view_of(sighted, now), no_history, now, packaged("page.css"))
    new = file.with_name(f".{file.name}.new")
    try:
        new.write_text(text)
        new.replace(file)
    except OSError as error:
        raise UsageError(
            f"cannot write {file}: {error.strerror}", hint="Name a file that can be written."
        ) from error


def _asked(
    here: Session,
    options: Options,
    arguments: tuple[str, ...],
    ignore: tuple[str, ...],
    tags: tuple[str, ...],
) -> Asked:
    if not names_config(options, arguments) and not tags:
        return Asked(names=arguments, ignore=ignore)
    config, machines = split_config(options, arguments)
    deployment = evaluate.evaluate(here, config, machines, want="images", tags=tags, build=False)
    return Asked(
        machines=deployment.machines,
        config=None if machines or tags else deployment.config,
        deployment=deployment.name,
        ignore=ignore,
        provenance=deployment.provenance,
    )


def _document(found: Iterable[MachineStatus], measured: Mapping[str, Rates]) -> documents.Compared:
    return documents.Compared(
        machines=tuple(as_documents.compared(each, measured.get(each.uuid or "")) for each in found)
    )


def _show(
    found: Iterable[MachineStatus], measured: Mapping[str, Rates], output: Output, options: Options
) -> None:
    for machine in found:
        rates = measured.get(machine.uuid or "")
        for line in status_lines(machine, output.paint, rates, all_=options.verbosity > 0):
            output.diff(line)


def _watch(
    here: Session, asked: Asked, output: Output, options: Options, on_change: str | None
) -> None:
    """Show the status of what is ASKED about whenever it changes; never returns."""
    first = True
    for look in looks(here, asked):
        if look.error is not None:
            output.note(f"{look.error.message}; it is looked for again")
        elif output.json:
            output.compact(_document(look.found, {}))
        elif sys.stdout.isatty():
            sys.stdout.write(_CLEAR)
            _show(look.found, {}, output, options)
        else:
            changed = look.found if first else [m for m in look.found if m.name in look.changed]
            _show(changed, {}, output, options)
            for name in look.changed.keys() - {machine.name for machine in look.found}:
                output.line(f"- {printable(name)}: gone")
        sys.stdout.flush()
        first = first and look.error is not None
        if on_change is not None:
            _tell(on_change, look, output)


def _tell(command: str, look: Look, output: Output) -> None:
    """Have the shell run COMMAND for each machine that changed; that it fails ends nothing."""
    now = {machine.name: machine for machine in look.found}
    for name, before in look.changed.items():
        after = now.get(name)
        lines = [] if after is None else [*status_lines(after, all_=False)]
        environment = {
            **os.environ,
            "PYGUIXVM_MACHINE": printable(name),
            "PYGUIXVM_STATUS": after.status if after else "gone",
            "PYGUIXVM_BEFORE": before.status if before else "",
            "PYGUIXVM_MESSAGE": "\n".join(lines).strip() or f"{printable(name)}: gone",
        }
        done = process.run(["/bin/sh", "-c", command], environment=environment, check=False)
        output.forward(done.stdout + done.stderr)
        if done.status:
            output.note(f"'{command}' ended with status {done.status}")
