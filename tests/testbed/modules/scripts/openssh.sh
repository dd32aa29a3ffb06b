# SPDX-License-Identifier: GPL-3.0-or-later
#
# OpenSSH, told where in the store its own helpers are.
with_pam
for name in sshd-session sshd-auth sftp-server; do
    program /usr/lib/openssh/$name $out/libexec/$name
done
program /usr/sbin/sshd $out/libexec/sshd
for name in ssh ssh-keygen ssh-add ssh-agent ssh-keyscan scp sftp; do
    program /usr/bin/$name
done
mkdir -p $out/sbin
cat > $out/sbin/sshd <<EOT
#!$runtime/bin/sh
# Debian's sshd insists on this directory, and on its name.
[ -d /run/sshd ] || $coreutils/bin/mkdir -p /run/sshd
exec $out/libexec/sshd -o SshdSessionPath=$out/libexec/sshd-session \\
     -o SshdAuthPath=$out/libexec/sshd-auth "\$@"
EOT
chmod 555 $out/sbin/sshd
