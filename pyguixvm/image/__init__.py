# SPDX-License-Identifier: GPL-3.0-or-later
"""Disk images: overlays, partitions, file systems, and growing all three."""
