# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: the only place that prints or exits."""
