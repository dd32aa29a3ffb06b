# shellcheck shell=bash
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Debian packages: which are wanted, which are there, and where they come from.
# To be sourced.

# Print the packages named in FILE…, without comments.
wanted_packages () {
    sed -e 's/#.*//' -e 's/[[:space:]]//g' -e '/^$/d' "$@"
}

# Print the packages of FILE… that are not installed in the system at ROOT ("" is
# this one).
missing_packages () {
    local root=$1
    shift
    # shellcheck disable=SC2016  # dpkg-query's own fields
    comm -23 <(wanted_packages "$@" | sort -u) \
         <(dpkg-query --admindir="$root/var/lib/dpkg" --show \
                      --showformat='${db:Status-Abbrev}${Package}\n' 2> /dev/null |
               sed -n 's/^ii *//p' | sort -u)
}

# Print the mirror that this host gets Debian itself from, if it has package lists.
known_debian_mirror () {
    # shellcheck disable=SC2016  # apt's own field
    apt-get indextargets --format '$(REPO_URI)' \
            'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | sort -u | head -n 1
}

# Print the mirror that this host gets Debian itself from; nothing if there is none.
debian_mirror () {
    local mirror
    mirror=$(known_debian_mirror)
    [[ -n $mirror ]] || { apt-get update -q >&2; mirror=$(known_debian_mirror); }
    echo "$mirror"
}

# Give the system at ROOT this host's way to the mirror.
show_the_mirror () {
    cp -L /etc/resolv.conf "$1/etc/resolv.conf" 2> /dev/null || true
    {
        apt-config dump | grep -E '^Acquire::(http|https)::Proxy' || true
        # A mirror may be a snapshot, whose Release files have expired.
        echo 'Acquire::Check-Valid-Until "false";'
        echo 'Acquire::Check-Date "false";'
    } > "$1/etc/apt/apt.conf.d/99testbed"
}
