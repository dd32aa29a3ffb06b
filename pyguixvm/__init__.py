# SPDX-License-Identifier: GPL-3.0-or-later
"""Declare virtual machines in Guix Scheme and run them on libvirt."""

__version__ = "0.1.0"
