# SPDX-License-Identifier: GPL-3.0-or-later
#
# The smaller Guile of the initial RAM disk.  After guile.sh.
for directory in ice-9 srfi rnrs rnrs.go system oop; do
    [ ! -e $system/guile/3.0/ccache/$directory ] ||
        cp -Rp $system/guile/3.0/ccache/$directory $compiled/ccache/
done
# Of the compiler there is what a REPL loads.  Guix has this very Guile compile the
# initrd's modules: where they are built there is Debian's.
mkdir $compiled/ccache/language
for part in bytecode.go scheme tree-il.go; do
    cp -Rp $system/guile/3.0/ccache/language/$part $compiled/ccache/language/
done
rm -rf $compiled/ccache/ice-9/peg* $compiled/ccache/srfi/srfi-64.go \
   $compiled/ccache/system/base/lalr.go $compiled/ccache/system/repl/*server.go \
   $compiled/ccache/system/vm/assembler.go $compiled/ccache/system/vm/coverage.go \
   $compiled/ccache/system/vm/linker.go
