# SPDX-License-Identifier: GPL-3.0-or-later
#
# The store item on which all that runs in an image stands: C library, Guile
# with its extensions, Shepherd and Bash.  After guile.sh.
cp -Rp $system/guile/3.0/ccache/. $compiled/ccache/
cp -Rp /usr/share/guile/3.0/. $out/share/guile/3.0/
for directory in $compiled/ccache $out/share/guile/3.0; do
    for unused in ecmascript elisp brainfuck lua; do
        rm -rf $directory/language/$unused
    done
    rm -rf $directory/scripts $directory/statprof.*
done

for name in shepherd fibers gcrypt sqlite3 zlib json; do
    for file in $name $name.scm; do
        [ ! -e /usr/share/guile/site/3.0/$file ] ||
            cp -Rp /usr/share/guile/site/3.0/$file $site/
    done
    for file in $name $name.go; do
        [ ! -e $system/guile/3.0/site-ccache/$file ] ||
            cp -Rp $system/guile/3.0/site-ccache/$file $compiled/site-ccache/
    done
done
cp -P $system/guile/3.0/extensions/fibers-epoll.so* $compiled/extensions/
libraries $compiled/extensions/fibers-epoll.so*
mkdir -p $out/lib/shepherd
cp $system/shepherd/crash-handler.so $out/lib/shepherd/

# Libraries that Guile modules load by name.
for name in libgcrypt.so.20 libz.so.1 libsqlite3.so.0 libgcc_s.so.1; do
    [ -e $out/lib/$name ] || cp -L $system/$name $out/lib/
    libraries $system/$name
    short=$out/lib/${name%.so.*}.so
    [ -e $short ] || ln -s $name $short
done

# Modules that hold file names of Debian are changed and compiled anew.
sed -i "s|$system/guile/3.0/extensions|$compiled/extensions|" \
    $site/fibers/config.scm
sed -i "s|$system/shepherd|$out/lib/shepherd|" $site/shepherd/config.scm
sed -i "s|/usr/bin/gzip|$out/bin/gzip|" $site/shepherd/system.scm
sed -i "s|$system/|$out/lib/|" $site/sqlite3.scm $site/zlib/config.scm
cat > compile.scm <<'EOT'
(use-modules (ice-9 match) (system base compile))
(match (command-line)
  ((_ file output)
   (compile-file file #:opts '(#:warnings ()) #:output-file output)))
EOT
for file in $(cd $compiled/site-ccache; grep -rlF $system/ .) shepherd/system.go
do
    rm $compiled/site-ccache/$file
    HOME=$PWD GUILE_AUTO_COMPILE=0 $out/bin/guile --no-auto-compile compile.scm \
        $site/${file%.go}.scm $compiled/site-ccache/$file
done

program /usr/bin/bash
# Guix compiles another file name into its Bash, for all to have a PATH.
sed -i 's|/etc/bash.bashrc\x00|/etc/bashrc\x00\x00\x00\x00\x00\x00|' $out/bin/bash
ln -s bash $out/bin/sh
program /usr/bin/gzip
for command in shepherd:'(shepherd)' herd:'(shepherd scripts herd)' \
               halt:'(shepherd scripts halt)' \
               reboot:'(shepherd scripts reboot)'; do
    cat > $out/bin/${command%%:*} <<EOT
#!$out/bin/guile --no-auto-compile
!#
(apply (@ ${command#*:} main) (cdr (command-line)))
EOT
    chmod 555 $out/bin/${command%%:*}
done
ln -s halt $out/bin/shutdown
ln -s bin $out/sbin
