# SPDX-License-Identifier: GPL-3.0-or-later
"""The ``pyguixvm`` command: finds the verb, and turns errors into exit statuses."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

import click

from pyguixvm import __version__
from pyguixvm.cli.options import Options, common_options
from pyguixvm.cli.safepoints import alike
from pyguixvm.errors import InterruptedRequestError, PyguixvmError, UsageError

# One module for each family of verbs, imported only when one of them is called or
# listed with its help: `pyguixvm --help` answers at once.
_COMMANDS = {
    "check": ("description", "Evaluate the configuration and report every error in it."),
    "plan": ("declaration", "Show what deploy would do, without doing it."),
    "build": ("description", "Build the images of the declared machines."),
    "deploy": ("declaration", "Make the hypervisor match the configuration."),
    "watch": ("watch", "Deploy whenever the configuration is saved."),
    "xml": ("description", "Print the domain XML that deploy would define."),
    "status": ("status", "Tell whether machines are deployed as declared."),
    "exporter": ("exporter", "Tell Prometheus and people how machines are, and go on doing so."),
    "generations": ("history", "List the generations of machines."),
    "rollback": ("history", "Return a machine to an earlier generation."),
    "gc": ("history", "Remove what no machine needs any more."),
    "volumes": ("volumes", "List the volumes of data disks, which outlive their machines."),
    "list": ("machines", "List the machines that pyguixvm deployed."),
    "start": ("machines", "Start machines and wait until they are ready."),
    "ssh": ("guests", "Log in to a guest, or run a command there."),
    "cp": ("guests", "Copy files from and to a guest."),
    "console": ("machines", "Join this terminal with a guest's serial console."),
    "shutdown": ("machines", "Ask guests to shut down, and wait until they have."),
    "reboot": ("machines", "Ask guests to reboot."),
    "destroy": ("machines", "Power machines off at once, keeping all they have."),
    "autostart": ("machines", "Start machines with their host, or not."),
    "undefine": ("machines", "Remove machines and their root volumes."),
    "migrate": ("migration", "Move machines to another hypervisor."),
    "evacuate": ("migration", "Move all machines away from a hypervisor."),
    "graph": ("graph", "Draw what a configuration declares."),
    "repl": ("guests", "Talk to the hypervisor by hand."),
    "evaluator": ("evaluator", "Show or stop what stays of Guix to evaluate configurations."),
}

# What an interrupted verb leaves behind; the others change nothing on any hypervisor.
_LEFT = {
    "deploy": "Machines that were started keep running, and what was half made goes. "
    "The next deploy goes on from there: what is done is left alone.",
    "watch": "Nothing is watched any more. A deploy that was under way is taken up by the next.",
    "rollback": "'pyguixvm generations' shows which generation is current; do it again to go on.",
    "gc": "Some of it may be removed. 'pyguixvm gc --dry-run' shows what is left to remove.",
    "volumes": "What was named first may be done. 'pyguixvm volumes' shows what there is.",
    "start": "Machines that were started keep running. 'pyguixvm list' shows them.",
    "shutdown": "Guests that were asked go on shutting down. 'pyguixvm list' shows their state.",
    "reboot": "Guests that were asked go on rebooting. 'pyguixvm list' shows their state.",
    "destroy": "Some machines may be powered off. 'pyguixvm list' shows their state.",
    "autostart": "Some machines may be changed. 'pyguixvm list' shows what holds.",
    "migrate": "The machine is where it was, or where it was to be, and can be started at one of "
    "both at most: run it again, and it goes on.",
    "evacuate": "What was named is done, and the machine that was under way as by migrate: run it "
    "again, and it goes on.",
    "evaluator": "'pyguixvm evaluator status' shows what is left.",
    "undefine": "'pyguixvm list' shows the machines that are left. Of one that is gone, volumes "
    "named pyguixvm-MACHINE may be left in their pools.",
}

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})

_NOT_YET = frozenset({
    "test", "publish",
})  # fmt: skip


class _Verbs(click.Group):
    """The verbs by name, each imported when it is called."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the verbs in the order in which a person meets them."""
        return list(_COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        """Return the verb NAME, or None."""
        if name not in _COMMANDS:
            return None
        module = importlib.import_module(f"pyguixvm.cli.{_COMMANDS[name][0]}")
        command: click.Command = getattr(module, f"{name}_command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb that ARGS begin with; say so where it is still to come."""
        if args and args[0] in _NOT_YET:
            raise UsageError(
                f"'{args[0]}' is not in this version of pyguixvm",
                hint=f"What there is: {', '.join(_COMMANDS)}.",
            )
        if args and args[0] in _COMMANDS:
            ctx.ensure_object(Options).verb = args[0]
        elif args and not args[0].startswith("-"):
            from pyguixvm.cli.suggestions import verb_hint  # wanted only here

            raise UsageError(
                f"No such command '{args[0]}'",
                hint=verb_hint(args[0], _COMMANDS) or f"What there is: {', '.join(_COMMANDS)}.",
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@common_options
@click.version_option(__version__, prog_name="pyguixvm")
def verbs() -> None:
    """Declare virtual machines in Guix Scheme and run them on libvirt.

    CONFIG is a Scheme file, ./config.scm unless given; MACHINE restricts a command to
    some of its machines.

    \b
    Exit statuses:
      0  done, or nothing to do        5  hypervisor or transfer failed
      1  failed, old state stands      6  not ready, rolled back
      2  usage                         7  not ready, not rolled back
      3  configuration refused         8  differences were found (--exit-code)
      4  build failed                130  interrupted
    """  # noqa: D301 -- \b is click's mark of a paragraph that is not to be wrapped


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that ARGUMENTS (default: the process's own) name; return its exit status."""
    options = Options()
    words = list(sys.argv[1:] if arguments is None else arguments)
    with alike():
        return _run(words, options)


def _run(words: list[str], options: Options) -> int:
    try:
        _require_text(words)
        status = verbs.main(
            args=words, prog_name="pyguixvm", standalone_mode=False, obj=options,
        )  # fmt: skip
        sys.stdout.flush()
    except (click.exceptions.Abort, KeyboardInterrupt):
        return _interrupted(options)
    except click.ClickException as error:
        # What click had not come to yet when it stumbled.
        options.json = options.json or "--json" in words
        return _report_usage(error, options)
    except PyguixvmError as error:
        return _report(error, options)
    except BrokenPipeError as error:
        # The reader of our standard output went away, which is its right; without a
        # new standard output Python would complain when it flushes the old one.
        return _unwritten(error)
    except Exception as error:  # noqa: BLE001 -- the one place where a defect of ours ends
        return _report_defect(error, options)
    return status if isinstance(status, int) else 0


def _interrupted(options: Options) -> int:
    if "_PYGUIXVM_COMPLETE" in os.environ:
        # Nothing was asked for but words for a prompt, in which nothing is to be written.
        return InterruptedRequestError.status
    # Click, which has ended the line that holds the terminal's ^C, made an Abort of it.
    left = _LEFT.get(options.verb or "", "Nothing was changed on the hypervisor.")
    return _report(InterruptedRequestError("interrupted", hint=left), options)


def _report_defect(error: Exception, options: Options) -> int:
    if isinstance(error, OSError) and error.errno in _FULL:
        status = _unwritten(error)
        # Click wanted to end the line that holds the ^C of a terminal that is gone.
        interrupted = isinstance(error.__context__, KeyboardInterrupt)
        return InterruptedRequestError.status if interrupted else status
    message = f"this is a defect of pyguixvm: {type(error).__name__}: {error}"
    hint = "Run the command again with --debug and report what it shows."
    return _report(PyguixvmError(message, hint=hint), options)


def _require_text(words: Sequence[str]) -> None:
    """Raise UsageError if one of WORDS is not text: neither Guix nor libvirt has names for it."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise UsageError(f"{word!a} is no text in UTF-8") from None


def _unwritten(error: OSError) -> int:
    """Say that a device took no more, where that can still be said and is not as wanted."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not isinstance(error, BrokenPipeError):
        with suppress(OSError):
            sys.stderr.write(f"pyguixvm: error: cannot write: {error.strerror}\n")
    return PyguixvmError.status


def _report_usage(error: click.ClickException, options: Options) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        # Whoever types the command alone wants to know more, and did nothing wrong.
        error.show()
        return UsageError.status
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = context.command_path if context else "pyguixvm"
    message, hint = error.format_message(), f"See '{path} --help'."
    if isinstance(error, click.NoSuchOption):
        from pyguixvm.cli.suggestions import option_hint  # wanted only here

        meant = option_hint(error.option_name, context.info_name if context else None)
        if meant is not None:
            # Click's own guess is by letters alone.
            message, hint = f"No such option: {error.option_name}", meant
    return _report(UsageError(message, hint=hint), options)


def _report(error: PyguixvmError, options: Options) -> int:
    from pyguixvm.cli.output import Output  # not needed by most runs
    from pyguixvm.cli.ui.rounds import JsonRounds

    if options.debug:
        import traceback  # slow to load

        traceback.print_exc()
    # Whoever reads what watch prints reads lines, up to the last one.
    output = JsonRounds(options) if options.json and options.verb == "watch" else Output(options)
    try:
        output.error(error)
    except OSError as lost:
        # A terminal that went away is why it was interrupted.
        status = _unwritten(lost)
        return error.status if isinstance(error, InterruptedRequestError) else status
    return error.status
