# SPDX-License-Identifier: GPL-3.0-or-later
"""The verb on the volumes of data disks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TypeAlias

import click

from pyguixvm.cli import documents
from pyguixvm.cli.confirmation import confirm, tell
from pyguixvm.cli.documents import Done
from pyguixvm.cli.here import session
from pyguixvm.cli.options import Options, common_options
from pyguixvm.cli.output import Output
from pyguixvm.commands import volumes
from pyguixvm.commands.session import Session
from pyguixvm.errors import PyguixvmError, UsageError
from pyguixvm.model.listed import ListedVolume
from pyguixvm.model.sizes import format_size

_Require: TypeAlias = Callable[[Iterable[ListedVolume]], None]
_Work: TypeAlias = Callable[[Session, Sequence[ListedVolume]], None]


def _complete_volume(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[str]:
    """Return the volumes that begin with INCOMPLETE; none if none can be asked for."""
    options = context.ensure_object(Options)
    with suppress(PyguixvmError):
        found = volumes.data_volumes(session(options, Output(options)))
        return [name for each in found if (name := _name(each)).startswith(incomplete)]
    return []


@click.command("volumes")
@click.argument(
    "action",
    type=click.Choice(["list", "delete", "adopt", "forget"]),
    default="list",
    metavar="[list|delete|adopt|forget]",
)
@click.argument("names", nargs=-1, metavar="[VOLUME]...", shell_complete=_complete_volume)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@common_options
@click.pass_obj
def volumes_command(options: Options, action: str, names: tuple[str, ...], yes: bool) -> int:
    """List the volumes of data disks, delete those that nothing uses, adopt or forget some.

    They outlive their machines: a disk of the same name that is declared for a machine of the
    same name takes its volume up again, if that is recorded and holds what is declared. A volume
    is called POOL/VOLUME, or by its name alone.

    delete refuses what a domain, running or not, or another volume uses, and what is only called
    like a volume of pyguixvm. adopt is for what holds the data and is not recorded, a backup that
    was put back for example: the next deploy takes it up. forget is for what is lost: the volume
    is let alone, and if it is not there, the next deploy makes another one, empty. These three
    ask before.
    """
    if not names and action != "list":
        raise UsageError(
            f"which volumes to {action}?", hint="'pyguixvm volumes' lists what there is."
        )
    if names and action == "list":
        raise UsageError("list takes no volumes", hint="It lists all there are.")
    output = Output(options)
    here = session(options, output)
    found = volumes.data_volumes(here)
    wanted = volumes.chosen(found, names) if names else found
    if action != "list":
        require, work, _ = _ACTIONS[action]
        require(wanted)
        _agree(action, wanted, yes=yes)
        work(here, wanted)
    done = _ACTIONS[action][2] if action != "list" else None
    if output.json:
        output.document(documents.Volumes(volumes=wanted, done=done))
    elif done:
        for each in wanted:
            output.line(f"{_name(each)}: {done}")
    else:
        _show(output, wanted)
    return 0


# What has to hold of the volumes, what is done with them, and how that is told.
_ACTIONS: Mapping[str, tuple[_Require, _Work, Done]] = {
    "delete": (volumes.require_deletable, volumes.delete, "deleted"),
    "adopt": (volumes.require_adoptable, volumes.adopt, "adopted"),
    "forget": (volumes.require_forgettable, volumes.forget, "forgotten"),
}


def _agree(action: str, wanted: tuple[ListedVolume, ...], *, yes: bool) -> None:
    """Ask whether ACTION may be done to the volumes WANTED, unless YES, see `confirm`."""
    if yes:
        return
    for each in wanted:
        whose = f"disk '{each.disk}' of '{each.machine}'"
        size = "" if each.allocation is None else f" ({format_size(each.allocation)})"
        tell(
            {
                "delete": f"{_name(each)}: deletes what {whose} held{size}",
                "adopt": f"{_name(each)}: the next {whose} is this one, whatever it holds",
                "forget": f"{_name(each)}: removes the record that this is {whose}",
            }[action]
        )
    question = "Remove for good?" if action == "delete" else f"{action.capitalize()}?"
    confirm(f"volumes {action}", question)


def _show(output: Output, found: tuple[ListedVolume, ...]) -> None:
    if not found:
        output.line("no data volumes")
        return
    output.table(
        ("MACHINE", "DISK", "POOL/VOLUME", "SIZE", "TAKES", "HOLDS", "STATE"),
        [
            (
                each.machine,
                each.disk,
                _name(each),
                "-" if each.size is None else format_size(each.size),
                "-" if each.allocation is None else format_size(each.allocation),
                each.file_system or "-",
                f"{each.state}: {each.detail}" if each.detail else each.state,
            )
            for each in found
        ],
    )


def _name(volume: ListedVolume) -> str:
    return f"{volume.pool}/{volume.volume}"
