# SPDX-License-Identifier: GPL-3.0-or-later
#
# systemd's udevd in the place of eudev's.
program /usr/bin/udevadm $out/libexec/udevadm
program /usr/bin/udevadm $out/libexec/systemd-udevd
program /usr/bin/systemd-hwdb $out/libexec/systemd-hwdb
mkdir -p $out/bin
# Libraries that it loads by name.
for name in libkmod.so.2 libblkid.so.1 libacl.so.1 libcap.so.2; do
    [ -e $runtime/lib/$name ] || [ -e $out/lib/$name ] ||
        cp -L $system/$name $out/lib/
    libraries $system/$name
done

# Guix's service has eudev's 'udevadm hwdb' write where it says, out of the files
# in $UDEV_HWDB_PATH; systemd's program knows only an alternative root.
#
# When a guest boots, it has udevd look at each device, of which there are hundreds:
# some 30 ms of processor time for each, where that is emulated.  Most are of kinds that
# no rule below does more about than rights: they are left out, and so are all
# subsystems.  What comes later is looked at whatever it is.
unseen=
for subsystem in acpi clockevents clocksource event_source mem memory \
                 pci_bus pci_express serial-base tty vc wakeup workqueue
do
    unseen="$unseen --subsystem-nomatch=$subsystem"
done
cat > $out/bin/udevadm <<EOT
#!$runtime/bin/sh
if [ "\$1 \$2 \$3" = "hwdb --update -o" ]; then
    PATH=$coreutils/bin; export PATH
    set -e
    mkdir -p root/etc/udev
    cp -RL "\$UDEV_HWDB_PATH" root/etc/udev/hwdb.d
    $out/libexec/systemd-hwdb update --root="\$PWD/root"
    exec cp root/etc/udev/hwdb.bin "\$4"
fi
case "\$*" in
    "trigger --action=add --type=devices") set -- "\$@" $unseen ;;
    "trigger --action=add --type=subsystems") exit ;;
esac
exec $out/libexec/udevadm "\$@"
EOT
chmod 555 $out/bin/udevadm

gcc -O2 -DPREFIX="\"$out\"" -o $out/bin/udevd -x c $udevd_c
relocate $out/bin/udevd
ln -s bin $out/sbin

# Rules that call only what is in udevd itself.
mkdir -p $out/lib/udev/rules.d $out/lib/udev/hwdb.d
for rule in 50-udev-default 60-block 60-evdev 60-input-id \
            60-persistent-input 60-persistent-storage 60-serial 64-btrfs \
            70-memory 70-mouse 70-power-switch 75-net-description 80-drivers
do
    file=/usr/lib/udev/rules.d/$rule.rules
    [ ! -e $file ] || cp $file $out/lib/udev/rules.d/
done
# Guix has not all groups that systemd knows.
sed -i -e 's/GROUP="render"/GROUP="video"/' -e 's/GROUP="clock"/GROUP="root"/' \
    $out/lib/udev/rules.d/50-udev-default.rules
# The names that eudev gives to network interfaces: enp1s0 rather than eth0.
cat > $out/lib/udev/rules.d/80-net-name-slot.rules <<'EOT'
ACTION!="add", GOTO="end"
SUBSYSTEM!="net", GOTO="end"
NAME!="", GOTO="end"
NAME=="", ENV{ID_NET_NAME_ONBOARD}!="", NAME="$env{ID_NET_NAME_ONBOARD}"
NAME=="", ENV{ID_NET_NAME_SLOT}!="", NAME="$env{ID_NET_NAME_SLOT}"
NAME=="", ENV{ID_NET_NAME_PATH}!="", NAME="$env{ID_NET_NAME_PATH}"
LABEL="end"
EOT
# 'udevadm hwdb' wants something to compile.
cp /usr/lib/udev/hwdb.d/20-pci-classes.hwdb $out/lib/udev/hwdb.d/ 2>/dev/null ||
    printf '# Nothing.\ntestbed:*\n TESTBED=1\n' > $out/lib/udev/hwdb.d/20-testbed.hwdb
