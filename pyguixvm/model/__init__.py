# SPDX-License-Identifier: GPL-3.0-or-later
"""Frozen structures and pure functions on them; no effects."""
