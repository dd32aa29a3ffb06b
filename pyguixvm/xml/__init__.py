# SPDX-License-Identifier: GPL-3.0-or-later
"""libvirt's XML, written and read; pure."""
