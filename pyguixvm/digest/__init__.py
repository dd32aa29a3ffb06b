# SPDX-License-Identifier: GPL-3.0-or-later
"""What files hold, told by a digest."""
