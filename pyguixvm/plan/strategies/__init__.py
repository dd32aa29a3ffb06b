# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways to a new operating system: whether each is possible, its actions, its reason."""
