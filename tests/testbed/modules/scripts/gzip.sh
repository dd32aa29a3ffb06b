# SPDX-License-Identifier: GPL-3.0-or-later
#
# gzip, which does not do its best: Guix asks for that for each initial RAM disk,
# and it takes eight times as long for a twentieth of the size.
programs gzip
mkdir -p $out/libexec
mv $out/bin/gzip $out/libexec/gzip
cat > $out/bin/gzip <<EOT
#!$runtime/bin/sh
case \$1 in --best) shift; set -- -3 "\$@" ;; esac
exec $out/libexec/gzip "\$@"
EOT
chmod 555 $out/bin/gzip
