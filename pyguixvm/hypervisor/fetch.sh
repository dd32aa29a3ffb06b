# SPDX-License-Identifier: GPL-3.0-or-later
# Write what $url leads to, by $program, into $file, which is there and $size bytes long, from
# byte $start on.
# Zeros become holes.  Print the SHA-256 of what $file holds then.  How much it takes by now
# ("at BYTES") is told on standard error all the while, and what went wrong, too.

refuse() {
    echo "$1" >&2
    exit 1
}

[ -f "$file" ] || refuse "$file is not there"
[ -w "$file" ] || refuse "$file may not be written by $(id -un)"
[ "$(stat -c %s "$file")" = "$size" ] || refuse "$file is not the volume"

# What was asked for by whoever is not there any more is not gone on with.
(
    trap '' PIPE
    while sleep 1 >/dev/null 2>&1; do
        echo "at $(($(stat -c %b "$file") * 512))" >&2 || kill 0
    done
) </dev/null >/dev/null &
telling=$!

# The address is not among the arguments, which others there can see.
download() {
    case $program in
        curl)
            printf 'url = "%s"\n' "$url" |
                curl --config - --continue-at "$start" --fail --location --globoff \
                    --silent --show-error --proto =http,https --proto-redir =http,https \
                    --max-redirs 10 --connect-timeout 30 --speed-limit 1024 --speed-time 60
            ;;
        wget)
            printf '%s\n' "$url" |
                wget --input-file=- --start-pos="$start" --output-document=- --no-verbose \
                    --no-hsts --max-redirect=10 --tries=1 --timeout=30
            ;;
    esac
}

# Its own status: that of a pipeline is the last one's.
status=$(
    {
        { download 3>&-; echo $? >&3; } |
            head -c "$((size - start))" |
            dd of="$file" bs=64K iflag=fullblock oflag=seek_bytes seek="$start" \
                conv=nocreat,notrunc,sparse,fsync status=none >&2
        echo $? >&3
    } 3>&1
)
[ "$status" = "$(printf '0\n0')" ] && sha256sum <"$file"
status=$?
kill "$telling"
exit "$status"
