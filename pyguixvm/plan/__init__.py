# SPDX-License-Identifier: GPL-3.0-or-later
"""From what is declared and what is there to what will be done; pure, no effects at all."""
