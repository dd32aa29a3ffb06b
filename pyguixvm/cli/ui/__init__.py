# SPDX-License-Identifier: GPL-3.0-or-later
"""What is drawn while something happens."""
