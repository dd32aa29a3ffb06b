# SPDX-License-Identifier: GPL-3.0-or-later
# Write what comes by standard input, compressed by zstd, into $file, which is there and is to have
# $size bytes.  It comes as lines "OFFSET LENGTH SUM", each with LENGTH bytes after it; the last
# line is "end".  Zeros become holes.  How much there is by now ("at SUM") is told on standard
# error, and what went wrong; "whole" on standard output, when all of it is there.

refuse() {
    echo "$1" >&2
    exit 1
}

[ -f "$file" ] || refuse "$file is not there"
[ -w "$file" ] || refuse "$file may not be written by $(id -un)"
# Whatever gets its name meanwhile is not written to.
exec 3<>"$file"
# What libvirt began to send it ends where that was broken off.
[ "$(stat -L -c %s /proc/self/fd/3)" -le "$size" ] || refuse "$file is not the volume"

zstd -dcq | while read -r at length sum; do
    if [ "$at" = end ]; then
        truncate --size="$size" /proc/self/fd/3 && echo whole
        break
    fi
    dd of=/proc/self/fd/3 bs=64K iflag=fullblock,count_bytes count="$length" \
        oflag=seek_bytes seek="$at" conv=nocreat,notrunc,sparse status=none >&2 || exit 1
    echo "at $sum" >&2
done
