# SPDX-License-Identifier: GPL-3.0-or-later
"""Guix: evaluating configurations and building what they declare."""
