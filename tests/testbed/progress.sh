# shellcheck shell=bash
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Phases of work, whose own output goes to a log.  To be sourced, by a script
# under 'set -e'.

# Have the phases of this script, and of those that it calls, in one log: FILE,
# emptied, unless a script that calls this one has one already.
open_log () {
    if [[ -z ${PYGUIXVM_LOG:-} ]]; then
        mkdir -p "${1%/*}"
        : > "$1"
        export PYGUIXVM_LOG=$1
    fi
    doing=''
    exec {screen}>&2
    trap 'end_phase $?' EXIT
    # A command that was interrupted may end as if it had failed.
    trap 'exit 130' INT
}

# Run COMMAND… and show, as WHAT, that it runs and how long it took: in one line,
# which on a terminal changes while it runs.  If it fails, so does the script.
phase () {
    doing=$1
    begun=$SECONDS
    shift
    echo "==== $doing" >> "$PYGUIXVM_LOG"
    ticker=''
    if [[ -t $screen ]]; then
        tick & ticker=$!
    else
        printf '%s ... ' "$doing" >&"$screen"
    fi
    "$@" >> "$PYGUIXVM_LOG" 2>&1 < /dev/null
    end_phase 0
}

# Show again and again what is being done, for how long, and the log's last line.
tick () {
    trap - EXIT
    local rows columns last line
    while kill -0 $$ 2> /dev/null; do
        read -r rows columns < <(stty size <&"$screen" 2> /dev/null) || columns=80
        (( ${rows:-0} > 0 )) || columns=80
        last=$(tail -n 1 "$PYGUIXVM_LOG" | sed 's/^====.*//' | tr -d '\000-\037')
        line="$doing ... $((SECONDS - begun)) s  $last"
        printf '\r\033[K%s' "${line:0:columns-1}" >&"$screen"
        sleep 1
    done
}

# Say how the phase that runs, if there is one, ended: with STATUS.
end_phase () {
    [[ -n $doing ]] || return 0
    local before=''
    if [[ -n $ticker ]]; then
        kill "$ticker" 2> /dev/null || true
        wait "$ticker" 2> /dev/null || true
        printf -v before '\r\033[K%s ... ' "$doing"
    fi
    local seconds=$((SECONDS - begun))
    case $1 in
        0) printf '%s%d s\n' "$before" "$seconds" ;;
        130) printf '%sinterrupted\n' "$before" ;;
        *) printf '%sFAILED after %d s (status %d)\n' "$before" "$seconds" "$1"
           tail -n 15 "$PYGUIXVM_LOG" | sed 's/^/  | /'
           printf '  the whole log: %s\n' "$PYGUIXVM_LOG" ;;
    esac >&"$screen"
    doing=''
}
