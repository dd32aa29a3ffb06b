# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m pyguixvm`` and the ``pyguixvm`` command."""

import sys


def main() -> int:
    """Run the command; an interruption while Python still reads it is no traceback either."""
    try:
        from pyguixvm.cli.app import main as run
    except KeyboardInterrupt:
        sys.stderr.write("pyguixvm: interrupted\n")
        return 130
    return run()


if __name__ == "__main__":
    sys.exit(main())
