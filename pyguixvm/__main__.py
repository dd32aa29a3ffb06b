# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m pyguixvm`` and the ``pyguixvm`` command."""

import gc
import sys

# Loading makes many objects and next to no garbage; Python would look for it dozens of times.
_OBJECTS_BEFORE_A_COLLECTION = 50_000


def main() -> int:
    """Run the command; an interruption while Python still reads it is no traceback either."""
    gc.set_threshold(_OBJECTS_BEFORE_A_COLLECTION)
    try:
        from pyguixvm.cli.app import main as run
    except KeyboardInterrupt:
        sys.stderr.write("pyguixvm: interrupted\n")
        return 130
    return run()


if __name__ == "__main__":
    sys.exit(main())
