# SPDX-License-Identifier: GPL-3.0-or-later
"""The right to change a machine: one holder at a time, wherever they are."""
