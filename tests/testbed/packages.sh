# shellcheck shell=bash
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Debian packages: which are wanted and which are there.  To be sourced.

# Print the packages named in FILE, without comments.
wanted_packages () {
    sed -e 's/#.*//' -e 's/[[:space:]]//g' -e '/^$/d' "$1"
}

# Print the packages of FILE that are not installed in the system at ROOT.
missing_packages () {
    # shellcheck disable=SC2016  # dpkg-query's own fields
    comm -23 <(wanted_packages "$1" | sort -u) \
         <(dpkg-query --admindir="$2/var/lib/dpkg" --show \
                      --showformat='${db:Status-Abbrev}${Package}\n' 2> /dev/null |
               sed -n 's/^ii *//p' | sort -u)
}
