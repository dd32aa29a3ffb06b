# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m pyguixvm`` and the ``pyguixvm`` command."""

import sys

from pyguixvm.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
