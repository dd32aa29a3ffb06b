# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that every command takes, before or after its name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from pyguixvm.guix.configuration import Configuration
    from pyguixvm.model.transfer import Via
    from pyguixvm.plan.plan import Strategy

F = TypeVar("F", bound=Callable[..., Any])

# Those of pyguixvm.plan.plan, which is loaded only where something is planned.
_STRATEGIES = ("auto", "increment", "full", "live", "in-place", "shared-store")
# Those of pyguixvm.model.transfer.
_VIAS = ("upload", "store", "auto")


@dataclass
class Options:
    """What the command line says about all commands.

    The one mutable structure of the program: click fills it option by option,
    and nothing changes it afterwards.
    """

    uri: str | None = None
    load_path: list[Path] = field(default_factory=list)
    # Those of Guix's commands, as these take them.
    build_options: list[str] = field(default_factory=list)
    # The configuration, where it is no file.
    expression: str | None = None
    json: bool = False
    verbosity: int = 0
    debug: bool = False
    verify: bool = False
    via: Via = "upload"
    # The verb's name as soon as it is known, for what is said when it is interrupted.
    verb: str | None = None


def _store(attribute: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(context: click.Context, _parameter: click.Parameter, value: Any) -> None:
        options = context.ensure_object(Options)
        if attribute == "load_path":
            for directory in (Path(given).absolute() for given in value):
                options.load_path.append(directory)
                options.build_options.append(f"--load-path={directory}")
        elif attribute == "quiet":
            options.verbosity -= value
        elif attribute == "verbose":
            options.verbosity += value
        elif value:
            setattr(options, attribute, value)

    return callback


def common_options(command: F) -> F:
    """Give COMMAND the options that all commands share."""
    for decorate in (
        click.option("--debug", is_flag=True, expose_value=False, callback=_store("debug"),
                     help="Show tracebacks."),
        click.option("-q", "--quiet", count=True, expose_value=False, callback=_store("quiet"),
                     help="Show errors and results only."),
        click.option("-v", "--verbose", count=True, expose_value=False, callback=_store("verbose"),
                     help="Show more, such as the whole build output."),
        click.option("--json", is_flag=True, expose_value=False, callback=_store("json"),
                     help="Print the result as JSON."),
        click.option("-L", "--load-path", multiple=True, metavar="DIR", expose_value=False,
                     type=click.Path(exists=True, file_okay=False), callback=_store("load_path"),
                     help="Look for Scheme modules and packages in DIR first (may be repeated)."),
        click.option("-c", "--connect", metavar="URI", expose_value=False, callback=_store("uri"),
                     help="Hypervisor for machines that name none; default: "
                     "$LIBVIRT_DEFAULT_URI, then libvirt's own choice."),
    ):  # fmt: skip
        command = decorate(command)
    return command


def unprotect_option(command: F) -> F:
    """Give COMMAND the option that lifts the protection of machines, this once."""
    return click.option(
        "--unprotect", is_flag=True, help="Do it to protected machines as well, this once."
    )(command)


def trial_option(command: F) -> F:
    """Give COMMAND the option that boots a new operating system in a copy first, as TRIAL."""
    return click.option(
        "--test",
        "trial",
        type=click.Choice(("direct", "full")),
        metavar="[=full]",
        help="Boot each new operating system in a throwaway copy first; unless that gets "
        "ready, the machine itself is left alone.  A copy is started by its kernel; with "
        "=full by firmware and boot loader, as the machine is.",
    )(command)


def verify_option(command: F) -> F:
    """Give COMMAND the option to compare all that is sent with what arrived."""
    return click.option(
        "--verify", is_flag=True, expose_value=False, callback=_store("verify"),
        help="Compare all that is sent elsewhere with what arrived, instead of some of it.",
    )(command)  # fmt: skip


def via_option(command: F) -> F:
    """Give COMMAND the option that says how images get to hypervisors elsewhere."""
    return click.option(
        "--via", type=click.Choice(_VIAS), expose_value=False, callback=_store("via"),
        help="How an image gets to a hypervisor elsewhere: upload sends its bits; store has the "
        "Guix of a host behind qemu+ssh:// compose it of store items, and sends (or lets it "
        "fetch) those that it lacks; auto does so where that is possible and sends less.  "
        "[default: upload]",
    )(command)  # fmt: skip


class Trying(click.Command):
    """A command that `trial_option` was given to, whose value is after a '=' or left out.

    Without that, Click would take the next argument for it.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Say in ARGS what '--test' means if nothing else is said."""
        end = args.index("--") if "--" in args else len(args)
        said = ["--test=direct" if each == "--test" else each for each in args[:end]]
        return super().parse_args(ctx, [*said, *args[end:]])


def jobs_option(command: F) -> F:
    """Give COMMAND the option that says how many machines are prepared at once, as JOBS."""
    from pyguixvm.commands.deploy import JOBS

    return click.option(
        "--jobs",
        "-j",
        type=click.IntRange(min=1),
        default=JOBS,
        show_default=True,
        metavar="N",
        help="Make and send root volumes for so many machines of a hypervisor at once.",
    )(command)


def on_option(command: F) -> F:
    """Give COMMAND the option that selects machines by what they are called together, as TAGS."""
    return click.option(
        "--on",
        "tags",
        multiple=True,
        metavar="TAG",
        help="Machines with this tag, beside those that are named (may be repeated).",
    )(command)


def order_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give COMMAND the options that say how machines take turns, as its ORDER."""

    @functools.wraps(command)
    def with_order(
        *arguments: Any, rolling: int | None, all_or_nothing: bool, **others: Any
    ) -> Any:
        from pyguixvm.plan.order import Order

        return command(*arguments, order=Order(rolling, all_or_nothing), **others)

    decorated: Callable[..., Any] = with_order
    for decorate in (
        click.option("--rolling", type=click.IntRange(min=1), metavar="N",
                     help="Change N machines at a time, the next ones only when these are "
                     "ready; after a failure, the rest are left as they are."),
        click.option("--all-or-nothing", is_flag=True,
                     help="If a machine fails, take back those that were changed: new ones are "
                     "removed, others return to what they were."),
    ):  # fmt: skip
        decorated = decorate(decorated)
    return decorated


def force_options(command: F) -> F:
    """Give COMMAND the options that say how a guest is stopped."""
    for decorate in (
        click.option("--stop-timeout", type=click.IntRange(min=1), metavar="SECONDS",
                     help="How long a guest may take to shut down.  "
                     "[default: 120, with --force 30]"),
        click.option("--force", is_flag=True,
                     help="Power off a guest that does not shut down in time."),
    ):  # fmt: skip
        command = decorate(command)
    return command


def policy_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give COMMAND the options that say what may be done to a guest, as its POLICY."""

    @functools.wraps(command)
    def with_policy(
        *arguments: Any,
        restart: bool,
        force: bool,
        stop_timeout: int | None,
        stop: str,
        unprotect: bool,
        strategy: Strategy,
        full: bool,
        allow_downgrades: bool,
        **others: Any,
    ) -> Any:
        from pyguixvm.plan.plan import Policy

        if full and strategy not in {"auto", "full"}:
            raise click.UsageError(f"--full and --strategy {strategy} exclude each other")
        policy = Policy(
            restart=restart,
            force=force,
            stop_timeout=stop_timeout,
            fast_stop=stop == "fast",
            unprotect=unprotect,
            strategy="full" if full else strategy,
            allow_downgrades=allow_downgrades,
        )
        return command(*arguments, policy=policy, **others)

    decorated: Callable[..., Any] = unprotect_option(with_policy)
    for decorate in (
        click.option("--restart/--no-restart", default=True,
                     help="Whether guests may be restarted; what needs it stays pending "
                     "otherwise.  [default: restart]"),
        force_options,
        click.option("--stop", type=click.Choice(["shutdown", "fast"]), default="shutdown",
                     help="How a guest ends that gets a new root: fast has its agent freeze its "
                     "file systems, and powers it off; what a program had not written is lost.  "
                     "[default: shutdown]"),
        click.option("--allow-downgrades", is_flag=True,
                     help="Whether older commits, of Guix's channels or of the configuration, may "
                     "take the place of newer ones."),
        click.option("--strategy", type=click.Choice(_STRATEGIES), default="auto",
                     help="The way to a changed operating system; auto takes the fastest "
                     "that keeps every promise (watch: changes guests that run where that "
                     "is possible), shared-store makes no image and lets the "
                     "guest have this machine's /gnu/store, live changes a guest that "
                     "runs, by its agent, and keeps its state, in-place does so by "
                     "ssh.  [default: auto]"),
        click.option("--full", is_flag=True, help="Short for --strategy full: a whole image."),
    ):  # fmt: skip
        decorated = decorate(decorated)
    return decorated


def split_config(
    options: Options, arguments: tuple[str, ...]
) -> tuple[Configuration, tuple[str, ...]]:
    """Return the configuration and the machines that OPTIONS and ARGUMENTS name.

    The first argument is the configuration if it looks like a file: if it
    exists, has a directory part, or ends in ``.scm``.  Raises UsageError if there is an
    expression as well.
    """
    named = _names_file(arguments)
    if options.expression is not None:
        from pyguixvm.guix.configuration import Expression

        if named:
            raise click.UsageError(f"both {arguments[0]} and an expression are given; which?")
        return Expression(options.expression), arguments
    return (Path(arguments[0]), arguments[1:]) if named else (Path("config.scm"), arguments)


def names_config(options: Options, arguments: tuple[str, ...]) -> bool:
    """Whether OPTIONS or the first of ARGUMENTS name a configuration, see `split_config`."""
    return options.expression is not None or _names_file(arguments)


def _names_file(arguments: tuple[str, ...]) -> bool:
    return bool(arguments) and (
        "/" in arguments[0] or arguments[0].endswith(".scm") or Path(arguments[0]).is_file()
    )


def _complete_config(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Have the shell complete the configuration, and after it machines.

    Those are the ones that are deployed: the declared ones would take an evaluation.
    `status` knows them without a configuration, too.
    """
    from click.shell_completion import CompletionItem  # wanted by shells alone

    from pyguixvm.cli.machines import complete_machine

    if context.params.get("arguments") or context.info_name == "status":
        found = complete_machine(context, parameter, incomplete)
        if found:
            return [CompletionItem(name) for name in found]
    return [CompletionItem(incomplete, type="file")]


config_arguments = click.argument(
    "arguments", nargs=-1, metavar="[CONFIG] [MACHINE]...", shell_complete=_complete_config
)
