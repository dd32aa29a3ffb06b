# SPDX-License-Identifier: GPL-3.0-or-later
#
# 'growpart', which is all that Guix's services run of it.
mkdir -p $out/bin
{
    echo "#!$runtime/bin/sh"
    echo "PATH=$coreutils/bin:$grep/bin:$sed/bin:$gawk/bin:$util_linux/bin:$eudev/bin; export PATH"
    tail -n +2 /usr/bin/growpart
} > $out/bin/growpart
chmod 555 $out/bin/growpart
