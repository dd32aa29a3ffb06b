# SPDX-License-Identifier: GPL-3.0-or-later
"""The verb about Guix's process that stays to evaluate configurations: evaluator."""

from __future__ import annotations

import os
from typing import Literal

import click

from pyguixvm.cli import documents
from pyguixvm.cli.options import Options, common_options
from pyguixvm.cli.output import Output
from pyguixvm.guix import evaluators
from pyguixvm.guix.endpoint import runtime_directory
from pyguixvm.model.sizes import format_size


@click.command("evaluator")
@click.argument("action", type=click.Choice(["status", "stop"]))
@common_options
@click.pass_obj
def evaluator_command(options: Options, action: Literal["status", "stop"]) -> int:
    """Show or stop the processes that stay to evaluate configurations.

    There is one for each Guix, so that not every command has to load Guix.  They end by
    themselves when nobody has asked them for half an hour.
    """
    output = Output(options)
    directory = runtime_directory(os.environ)
    stopping = action == "stop"
    found = evaluators.stop(directory) if stopping else evaluators.running(directory)
    if output.json:
        output.document(
            documents.Evaluators(
                stopped=stopping,
                evaluators=tuple(
                    documents.RunningEvaluator(
                        pid=each.pid, guix=each.guix, memory=each.memory, busy=each.busy
                    )
                    for each in found
                ),
            )
        )
    elif not found:
        output.note("no evaluator runs")
    else:
        output.table(
            ("PID", "STATE", "MEMORY", "GUIX"),
            [
                (
                    str(each.pid or "-"),
                    "stopped" if stopping else "busy" if each.busy else "waiting",
                    format_size(each.memory) if each.memory else "-",
                    each.guix or "-",
                )
                for each in found
            ],
        )
    return 0
