# SPDX-License-Identifier: GPL-3.0-or-later
#
# The daemon of Guix; the 'guix' command itself is not in the images.
program /usr/bin/guix-daemon
mkdir -p $out/share/guix
cp /usr/share/guix/*.pub $out/share/guix/
cat > $out/bin/guix <<EOT
#!$runtime/bin/sh
echo "guix: not in the images of this test bed" >&2
exit 1
EOT
chmod 555 $out/bin/guix
