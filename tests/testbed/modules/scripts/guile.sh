# SPDX-License-Identifier: GPL-3.0-or-later
#
# A relocated Guile: the program, its libraries and locale, no modules yet.
# Input: $guile_c; $compiler, modules of Debian's that are left out.
site=$out/share/guile/site/3.0
compiled=$out/lib/guile/3.0
mkdir -p $out/bin $site $out/share/guile/3.0 $out/lib/locale $out/lib/gconv \
      $compiled/ccache $compiled/site-ccache $compiled/extensions

libraries $system/guile/3.0/bin/guile
cp $guile_c guile.c
gcc -O2 -DPREFIX="\"$out\"" ${compiler:+-DCOMPILER="\"$compiler\""} -o $out/bin/guile guile.c \
    $system/libguile-3.0.so.1 \
    -Wl,--disable-new-dtags -Wl,-rpath,$out/lib \
    -Wl,--dynamic-linker,$out/lib/ld-linux-x86-64.so.2

# One locale, under the names that Guix uses.
cp -RLp /usr/lib/locale/C.utf8 $out/lib/locale/C.utf8
for name in C.UTF-8 en_US.utf8 en_US.UTF-8; do
    ln -s C.utf8 $out/lib/locale/$name
done
for file in gconv-modules gconv-modules.d ISO8859-1.so ISO8859-15.so \
            UTF-16.so UTF-32.so; do
    [ ! -e $system/gconv/$file ] || cp -Rp $system/gconv/$file $out/lib/gconv/
done
