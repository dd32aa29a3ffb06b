# SPDX-License-Identifier: GPL-3.0-or-later
#
# The guest agent for images, 'qemu-img' for their builds.
programs qemu-guest-agent
debian_tool qemu-img

# Guix's agent shuts down by what the system's profile has, without arguments
# (qemu-fix-agent-paths.patch), where Debian's falls back to these; such a long
# name has no room in it.  The end of each stays where it is: it stands for the
# name of a mode as well.
for name in poweroff reboot halt; do
    sed -i "s|/sbin/$name\x00|/run//$name\x00|" $out/bin/qemu-ga
done
mkdir -p $out/libexec
mv $out/bin/qemu-ga $out/libexec/qemu-ga
cat > $out/bin/qemu-ga <<EOT
#!$runtime/bin/sh
profile=/run/current-system/profile/sbin
$coreutils/bin/ln -sf \$profile/shutdown /run/poweroff
$coreutils/bin/ln -sf \$profile/reboot \$profile/halt /run/
exec $out/libexec/qemu-ga "\$@"
EOT
chmod 555 $out/bin/qemu-ga
