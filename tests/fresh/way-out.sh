# shellcheck shell=bash
# SPDX-License-Identifier: GPL-3.0-or-later
#
# This machine's way to Debian's mirror and to Python packages, for a system in a
# directory.  To be sourced; wants packages.sh for 'show_the_way_out'.

# What says to pip, apt and OpenSSL where to go, and whom to trust.
readonly names_on_the_way='^(PIP_[A-Z_]*|([a-z]*|[A-Z]*)_(proxy|PROXY)|SSL_CERT_(FILE|DIR)|(REQUESTS|CURL)_CA_BUNDLE)='
readonly pip_files=(/etc/pip.conf /etc/xdg/pip /root/.config/pip /root/.pip)
readonly authorities=/etc/ssl/certs/ca-certificates.crt

# Print NAME=VALUE of the variables that matter.
variables_on_the_way () { env | grep -E "$names_on_the_way" || true; }

# Copy FILE…, those that exist, into the system at ROOT.
copy_into () {
    local root=$1 file
    shift
    for file; do
        [[ -e $file ]] || continue
        mkdir -p "$root${file%/*}"
        cp -RL "$file" "$root$file"
    done
}

# Let the system at ROOT get packages as this machine does.
show_the_way_out () {
    show_the_mirror "$1"
    copy_into "$1" "${pip_files[@]}" "$authorities"
    # Once it has ca-certificates, that makes its own file, from these too.
    mkdir -p "$1/usr/local/share/ca-certificates"
    [[ ! -e $authorities ]] ||
        cp -L "$authorities" "$1/usr/local/share/ca-certificates/outside.crt"
}

# Print the directories of this machine that its pip looks for packages in.
local_registries () {
    {
        variables_on_the_way
        find "${pip_files[@]}" -type f -exec cat {} + 2> /dev/null || true
    } | grep -E 'find.links|index.url|FIND_LINKS|INDEX_URL' |
        grep -oE '(file://)?/[^/ ][^ ]*' | sort -u |
        while read -r place; do
            case $place in
                # An index has its files beside it.
                file://*/simple|file://*/simple/) place=${place%/simple*} ;;
            esac
            place=${place#file://}
            [[ ! -d $place ]] || echo "$place"
        done
}

# Have them at the same place in the system at ROOT, read-only.
show_local_registries () {
    local place
    while read -r place; do
        mkdir -p "$1$place"
        mount --bind "$place" "$1$place"
        mount -o remount,bind,ro "$1$place"
    done < <(local_registries)
}
