# SPDX-License-Identifier: GPL-3.0-or-later
#
# dhcpcd, with its hooks and under the user name that Guix's service creates.
program /usr/sbin/dhcpcd $out/libexec/dhcpcd
sed -i 's|_dhcpcd\x00|dhcpcd\x00\x00|g' $out/libexec/dhcpcd
hooks=$(dpkg -L dhcpcd-base | grep '/dhcpcd-run-hooks$')
directory=$(dpkg -L dhcpcd-base | grep '/dhcpcd-hooks$')
cp -R $directory $out/libexec/dhcpcd-hooks
path=$coreutils/bin:$grep/bin:$sed/bin:$runtime/bin
{
    echo "#!$runtime/bin/sh"
    echo "PATH=$path; export PATH"
    tail -n +2 $hooks | sed "s|$directory|$out/libexec/dhcpcd-hooks|g"
} > $out/libexec/dhcpcd-run-hooks
mkdir -p $out/sbin
cat > $out/sbin/dhcpcd <<EOT
#!$runtime/bin/sh
PATH=$path; export PATH
exec $out/libexec/dhcpcd -c $out/libexec/dhcpcd-run-hooks "\$@"
EOT
chmod 555 $out/libexec/dhcpcd-run-hooks $out/sbin/dhcpcd
