# SPDX-License-Identifier: GPL-3.0-or-later
#
# PAM's library and modules.
mkdir -p $out/lib/security
for name in libpam.so.0 libpam_misc.so.0 libpamc.so.0; do
    cp -L $system/$name $out/lib/
    libraries $system/$name
done
for file in $system/security/pam_*.so; do
    case $file in
        # They would pull in what no default configuration asks for.
        *systemd* | *selinux* | *sepermit* | *userdb*) ;;
        *) cp $file $out/lib/security/; libraries $file ;;
    esac
done
chmod 755 $out/lib/security/*.so

# A module without directory is looked for in Debian's, by its name appended to
# a string in libpam.  Make that the empty string, and the loader takes the name
# and looks where the RPATH says.
offset=$(grep -abo "$system/security/" $out/lib/libpam.so.0 | head -n 1)
printf '\0' | dd of=$out/lib/libpam.so.0 bs=1 seek=${offset%%:*} conv=notrunc status=none
patchelf --force-rpath --set-rpath $out/lib/security:$out/lib:$runtime/lib \
         $out/lib/libpam.so.0
patchelf --force-rpath --set-rpath $out/lib:$runtime/lib $out/lib/security/*.so
program /usr/sbin/unix_chkpwd $out/sbin/unix_chkpwd

# pam_unix runs its helper by an absolute name.
gcc -O2 -shared -fPIC -o $out/lib/libpam-execve.so -x c $pam_execve_c
echo execve testbed_execve > symbols
patchelf --rename-dynamic-symbols symbols --add-needed libpam-execve.so \
         $out/lib/security/pam_unix.so
