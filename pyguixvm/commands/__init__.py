# SPDX-License-Identifier: GPL-3.0-or-later
"""The use cases: what each request does, from its configuration to its outcome."""
