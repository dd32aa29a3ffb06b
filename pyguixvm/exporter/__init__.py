# SPDX-License-Identifier: GPL-3.0-or-later
"""A service that goes on looking at machines, and tells Prometheus and people."""
