# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for all tests."""

from hypothesis import HealthCheck, settings

# How long an example takes, and how long it takes to make some, is up to what else runs.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
