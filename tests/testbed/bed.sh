# shellcheck shell=bash disable=SC2034 # variables are for those who source it
# SPDX-License-Identifier: GPL-3.0-or-later
#
# What setup, enter and stop have in common: where things are, and which
# processes belong to a bed.  To be sourced; wants $here, the directory of the
# script that does so.
#
# A bed is what a mount and a network namespace hold together.  All its
# processes, and nothing else, live in that network namespace; the namespaces
# end with the last of them.

state=${PYGUIXVM_TESTBED:-/var/lib/pyguixvm-testbed}
chroot=$state/chroot
builder=$state/guix-daemon          # the "bed" of guix-daemon, shared by all
readonly state chroot builder

# A file in each bed's own /run; holds the bed's name.
readonly marker=/run/pyguixvm-bed

# The environment of daemons: nothing of the caller's.
readonly clean_path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

say () { echo "${0##*/}: $*" >&2; }

need_root () {
    (( EUID == 0 )) || { say "must be run by root"; exit 125; }
}

# Set $bed, the directory of the bed called NAME.
name_bed () {
    [[ $1 =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ ]] || {
        say "a bed's name is made of letters, digits, '.', '_' and '-': '$1'"
        exit 125
    }
    bed=$state/beds/$1
}

# Set $started to the time at which process PID started, in clock ticks since
# boot (proc(5), field 22 of stat): number and time together never come again.
# A zombie holds no namespaces, and counts as ended.
process_started () {
    local stat fields
    { read -r stat < "/proc/$1/stat"; } 2> /dev/null || return 1
    read -ra fields <<< "${stat##*) }"
    [[ ${fields[0]} != Z ]] || return 1
    started=${fields[19]}
}

# Write to FILE that process PID stands for the network namespace it is in.
record_process () {
    local namespace boot
    process_started "$2"
    namespace=$(readlink "/proc/$2/ns/net")
    read -r boot < /proc/sys/kernel/random/boot_id
    echo "$boot $2 $started $namespace" > "$1.new"
    mv "$1.new" "$1"
}

# Set $pid and $namespace from FILE and return 0 if its process is alive; 1 if
# it is not; 2 if $namespace cannot be known either.
read_record () {
    local boot booted since
    pid='' namespace=''
    { read -r boot pid since namespace < "$1"; } 2> /dev/null || return 2
    read -r booted < /proc/sys/kernel/random/boot_id
    [[ $boot == "$booted" ]] || return 2
    process_started "$pid" && [[ $started == "$since" ]]
}

# Print the processes in network namespace NAMESPACE, as readlink names it.
processes_in () {
    local brackets=${1//[/\\[}
    find /proc/[0-9]*/ns/net -maxdepth 0 -lname "${brackets//]/\\]}" -print \
         2> /dev/null | cut -d/ -f3 | grep -vx "$$"
}

# End all processes in NAMESPACE but this one: first politely.
end_processes () {
    local signal tries
    for signal in TERM KILL; do
        for (( tries = 0; tries < 50; tries++ )); do
            mapfile -t pids < <(processes_in "$1")
            (( ${#pids[@]} > 0 )) || return 0
            (( tries > 0 )) || kill -s "$signal" "${pids[@]}" 2> /dev/null
            sleep 0.1
        done
    done
    say "these processes do not end: ${pids[*]}"
    return 1
}
