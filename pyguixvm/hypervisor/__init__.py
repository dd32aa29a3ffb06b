# SPDX-License-Identifier: GPL-3.0-or-later
"""libvirt: the only place where it is called."""
