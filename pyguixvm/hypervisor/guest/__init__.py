# SPDX-License-Identifier: GPL-3.0-or-later
"""What is seen of guests, and asked of their agents: all of it hostile until it was decoded."""
