# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs that lead into guests, and to their hypervisors: ssh, cp, repl."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

import click

from pyguixvm import process
from pyguixvm.cli.here import session
from pyguixvm.cli.machines import complete_machine
from pyguixvm.cli.options import Options, common_options
from pyguixvm.cli.output import Output
from pyguixvm.commands import guest_ssh
from pyguixvm.commands.where import hypervisor
from pyguixvm.errors import UsageError

_OPENSSH = "Install OpenSSH."


@click.command("ssh", context_settings={"ignore_unknown_options": True})
@click.argument("machine", metavar="[USER@]MACHINE", shell_complete=complete_machine)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]")
@common_options
@click.pass_obj
def ssh_command(options: Options, machine: str, command: tuple[str, ...]) -> NoReturn:
    """Log in to a guest by the system's ssh, or run COMMAND there.

    The guest's agent tells its address and host key; what ~/.ssh/config says of a host called
    MACHINE holds.  If the hypervisor is reached by ssh, the way leads through it.  The exit
    status is ssh's.
    """
    user, at, name = machine.rpartition("@")
    found = guest_ssh.ssh_options(session(options, Output(options)), name)
    # As one word for the shell there, as ssh has it.
    _become(["ssh", *found, "--", f"{user}{at}{name}", *command])


@click.command("cp")
@click.option("--recursive", "-r", is_flag=True, help="Copy directories with all they hold.")
@click.argument("files", nargs=-1, required=True, metavar="FILE... DESTINATION")
@common_options
@click.pass_obj
def cp_command(options: Options, files: tuple[str, ...], recursive: bool) -> NoReturn:
    """Copy files from and to a guest by the system's scp.

    What is called [USER@]MACHINE:FILE is in that guest, all else here.  All is as for ssh.
    """
    machines = {name for name in map(_machine_of, files) if name is not None}
    if len(files) < 2:  # noqa: PLR2004 -- a file and where it goes
        raise UsageError("cp takes what is to be copied, and where to")
    if len(machines) != 1:
        raise UsageError(
            f"cp copies from or to one machine, and these name {len(machines)}",
            hint="Write MACHINE:FILE for what is in a guest, and ./FILE for a name with a colon.",
        )
    found = guest_ssh.ssh_options(session(options, Output(options)), *machines)
    _become(["scp", *(["-r"] if recursive else []), *found, "--", *files])


def _machine_of(file: str) -> str | None:
    """Return the machine in whose guest FILE is, as scp reads it; None if it is here."""
    before, colon, _ = file.partition(":")
    return before.rpartition("@")[2] if colon and before and "/" not in before else None


@click.command("repl")
@click.option("--virsh", "shell", flag_value="virsh", default=True,
              help="libvirt's own shell.  [default]")  # fmt: skip
@click.option("--python", "shell", flag_value="python",
              help="Python, with libvirt's 'connection' and the 'machines' there.")  # fmt: skip
@common_options
@click.pass_obj
def repl_command(options: Options, shell: str) -> int:
    """Talk to the hypervisor by hand."""
    output = Output(options)
    here = session(options, output)
    if shell == "virsh":
        _become(["virsh", "--connect", hypervisor(here)])
    import code

    from pyguixvm.commands.hands import at_hand

    with at_hand(here) as names:
        said = f"{names['connection'].getURI()}: {', '.join(sorted(names))}"
        code.interact(banner=said, local=names, exitmsg="")
    return 0


def _become(words: list[str]) -> NoReturn:
    """Go on as the program that WORDS are."""
    program = process.which(words[0], _OPENSSH if words[0] != "virsh" else "Install libvirt.")
    sys.stdout.flush()
    sys.stderr.flush()
    # Python does not want to end by it, other programs do.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.execv(program, words)  # noqa: S606 -- no shell is wanted
