# SPDX-License-Identifier: GPL-3.0-or-later
"""At which random moments work is killed: how many, and which ones, is set from outside.

PYGUIXVM_KILLS says at how many (default: 3), and PYGUIXVM_SEED which ones those are.
"""

import os
import random
import signal
import subprocess

from program import Program

KILLS = int(os.environ.get("PYGUIXVM_KILLS", "3"))
SEED = int(os.environ.get("PYGUIXVM_SEED", "1"))


def moments(seconds):
    """Return at how many seconds to kill, spread over SECONDS, a measured undisturbed run."""
    seeded = random.Random(SEED)
    return [seconds * (number + seeded.random()) / max(KILLS, 1) for number in range(KILLS)]


def begun(script, *arguments):
    """Start SCRIPT with ARGUMENTS, which writes a line when its work begins."""
    process = Program(script, *arguments)
    assert process.stdout.readline() == "begun\n", process.communicate()
    return process


def end(process):
    """Wait for PROCESS, which does its work."""
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


def kill_after(process, seconds):
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
    _, errors = process.communicate()
    assert process.returncode in {0, -signal.SIGKILL}, errors
