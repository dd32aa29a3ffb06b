# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m pyguixvm`` and the ``pyguixvm`` command."""

import gc
import os
import sys

# Loading makes many objects and next to no garbage; Python would look for it dozens of times.
_OBJECTS_BEFORE_A_COLLECTION = 50_000


def main() -> int:
    """Run the command; an interruption while Python still reads it is no traceback either."""
    gc.set_threshold(_OBJECTS_BEFORE_A_COLLECTION)
    _have_standard_streams()
    try:
        from pyguixvm.cli.app import main as run
    except KeyboardInterrupt:
        sys.stderr.write("pyguixvm: interrupted\n")
        return 130
    return run()


def _have_standard_streams() -> None:
    """Open /dev/null as what was closed: else the next file or socket would take its place."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest descriptor that is free
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


if __name__ == "__main__":
    sys.exit(main())
