# SPDX-License-Identifier: GPL-3.0-or-later
#
# The smaller Guile of the initial RAM disk.  After guile.sh.
for directory in ice-9 srfi rnrs rnrs.go system oop language; do
    [ ! -e $system/guile/3.0/ccache/$directory ] ||
        cp -Rp $system/guile/3.0/ccache/$directory $compiled/ccache/
done
# The compiler stays: Guix has this very Guile compile the initrd's modules.
for unused in ecmascript elisp brainfuck lua wisp; do
    rm -rf $compiled/ccache/language/$unused
done
rm -rf $compiled/ccache/ice-9/peg* $compiled/ccache/srfi/srfi-64.go
