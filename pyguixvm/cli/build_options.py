# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of Guix's commands, for those of ours that evaluate a configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from pyguixvm.cli.options import Options

F = TypeVar("F", bound=Callable[..., Any])

Value = bool | int | str | tuple[str, ...]


def _pass_on(context: click.Context, parameter: click.Parameter, value: Value | None) -> None:
    """Have Guix get PARAMETER, which has VALUE, as it was given."""
    long = next(name for name in parameter.opts if name.startswith("--"))
    options = context.ensure_object(Options)
    match value:
        case True:
            options.build_options.append(long)
        case None | False:
            pass
        case _:
            options.build_options.append(f"{long}={value}")


def _take_expression(
    context: click.Context, _parameter: click.Parameter, value: str | None
) -> None:
    if value is not None:
        context.ensure_object(Options).expression = value


_EXPRESSION = click.option(
    "-e",
    "--expression",
    metavar="EXPR",
    expose_value=False,
    callback=_take_expression,
    help="Take what EXPR evaluates to for the configuration, which is no file then.",
)

# What each takes is Guix's ("Common Build Options" in its manual); another one is a line here.
# Guix's -c is --connect here, as it is virsh's.
BUILD_OPTIONS: tuple[Callable[[F], F], ...] = tuple(
    click.option(*names, expose_value=False, callback=_pass_on, **how)
    for names, how in (
        (("--no-grafts",), {"is_flag": True, "help": "Do not graft packages."}),
        (("--no-substitutes",), {"is_flag": True, "help": "Build all that is not there."}),
        (("--substitute-urls",), {"metavar": "URLS", "help": "Fetch substitutes from URLS."}),
        (
            ("--fallback",),
            {"is_flag": True, "help": "Build what cannot be fetched as a substitute."},
        ),
        (("--no-offload",), {"is_flag": True, "help": "Do not build on other machines."}),
        (
            ("-M", "--max-jobs"),
            {"type": click.IntRange(min=0), "metavar": "N", "help": "Build N things at once."},
        ),
        (
            ("--cores",),
            {"type": click.IntRange(min=0), "metavar": "N", "help": "Build each on N cores."},
        ),
        (
            ("-K", "--keep-failed"),
            {"is_flag": True, "help": "Keep the build trees of what fails to build."},
        ),
    )
)


def build_options(command: F) -> F:
    """Give COMMAND the build options, and the one that gives a configuration."""
    for decorate in (*reversed(BUILD_OPTIONS), _EXPRESSION):
        command = decorate(command)
    return command
