# SPDX-License-Identifier: GPL-3.0-or-later
"""Look for what nobody thought of: random acts of many, and what has to be so after each."""
