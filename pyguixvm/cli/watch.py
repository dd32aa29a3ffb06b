# SPDX-License-Identifier: GPL-3.0-or-later
"""The verb that stays: watch."""

from __future__ import annotations

import time
from typing import NoReturn

import click

from pyguixvm.cli.declaration import deploy_once, session
from pyguixvm.cli.options import (
    Options,
    common_options,
    config_arguments,
    policy_options,
    split_config,
)
from pyguixvm.cli.output import Output
from pyguixvm.errors import PyguixvmError, UsageError
from pyguixvm.reconcile.plan import Policy
from pyguixvm.watch import watching


@click.command("watch")
@config_arguments
@policy_options
@common_options
@click.pass_obj
def watch_command(options: Options, arguments: tuple[str, ...], policy: Policy) -> NoReturn:
    """Deploy CONFIG now, and again whenever it is saved, until Control-C.

    Scheme files beside CONFIG count as well, and those below the directories of the
    load path.  After an error, machines stay as they are until the next save.
    """
    output = Output(options)
    here = session(options, output)
    config, _ = split_config(arguments)
    if not config.absolute().parent.is_dir():
        raise UsageError(
            f"there is no directory {config.absolute().parent}",
            hint="Give the name of a configuration, which may be yet to be written.",
        )
    with watching(config, options.load_path) as changes:
        while True:
            begun = time.monotonic()
            try:
                deploy_once(output, here, arguments, policy)
            except PyguixvmError as error:
                output.error(error)
            output.note(f"{time.monotonic() - begun:.1f} s; waiting for {config} to be saved")
            changes.wait()
