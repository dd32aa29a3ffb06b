# SPDX-License-Identifier: GPL-3.0-or-later
#
# Guile modules of ours in place of those of a package that Debian lacks.
# Input: $modules.
mkdir -p $out/share/guile/site
cp -R $modules $out/share/guile/site/3.0
