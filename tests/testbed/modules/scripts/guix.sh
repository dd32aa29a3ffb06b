# SPDX-License-Identifier: GPL-3.0-or-later
#
# Guix: the daemon, and what of the command needs no package definitions, which
# are some 350 MB: gc, archive, copy, repl, hash, processes and the like.
program /usr/bin/guix-daemon $out/libexec/guix-daemon
mkdir -p $out/bin $out/share/guix
cp /usr/share/guix/*.pub $out/share/guix/

# The modules, compiled; their sources too, which Guix looks up itself by.
compiled=$out/lib/guile/3.0/site-ccache
sources=$out/share/guile/site/3.0
for pair in $system/guile/3.0/site-ccache:$compiled:go \
            /usr/share/guile/site/3.0:$sources:scm
do
    from=${pair%%:*}
    to=${pair#*:}; to=${to%:*}
    suffix=${pair##*:}
    mkdir -p $to/gnu
    cp $from/guix.$suffix $to/
    cp -R $from/guix $to/
    cp $from/gnu/packages.$suffix $to/gnu/
    rm -rf $to/guix/import $to/guix/tests $to/guix/scripts/import \
       $to/guix/lint.$suffix $to/guix/gnu-maintenance.$suffix
done

cat > $out/bin/guix <<EOT
#!$runtime/bin/guile --no-auto-compile
!#
(set! %load-path (cons "$sources" %load-path))
(set! %load-compiled-path (cons "$compiled" %load-compiled-path))
(apply (module-ref (resolve-interface '(guix ui)) 'guix-main) (command-line))
EOT
# The daemon calls the command for some of its work.
cat > $out/bin/guix-daemon <<EOT
#!$runtime/bin/sh
GUIX=$out/bin/guix; export GUIX
exec $out/libexec/guix-daemon "\$@"
EOT
chmod 555 $out/bin/guix $out/bin/guix-daemon
