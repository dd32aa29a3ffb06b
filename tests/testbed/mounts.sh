# shellcheck shell=bash disable=SC2154 # $chroot is set by bed.sh
# SPDX-License-Identifier: GPL-3.0-or-later
#
# What a bed sees: functions to be called in a new mount namespace.  To be
# sourced after bed.sh.

# Print the directories that people keep files in; a file has the same name
# inside and outside the chroot.
directories_of_people () {
    local directory
    for directory in /*; do
        case $directory in
            /bin|/boot|/dev|/etc|/gnu|/lib*|/lost+found|/proc|/run|/sbin|/sys|/usr|/var) ;;
            *) [[ ! -d $directory || -L $directory ]] || echo "$directory" ;;
        esac
    done
    echo /var/tmp
}

# Let the chroot see DIRECTORY… under their own names.
show_in_chroot () {
    local directory
    for directory; do
        mkdir -p "$chroot$directory"
        mount --rbind "$directory" "$chroot$directory"
    done
}

# Make the store read-only, as Guix does: only guix-daemon writes to it.
mount_read_only () {
    mount --bind "$1" "$2"
    mount -o remount,bind,ro "$2"
}

# Unmount DIRECTORY and all below it.  It would not do to mount over it: libvirt
# comes upon the covered mounts in /proc/mounts and takes them for usable.
uncover () {
    while mountpoint --quiet "$1"; do umount --recursive --lazy "$1"; done
}

# Put a copy of /dev in its place that lacks kvm, by way of directory STAGE.
# libvirt 9.0, when it finds a kvm that QEMU cannot use, holds its cached
# capabilities for outdated and probes QEMU anew at every call.
hide_kvm () {
    local stage=$1 node
    mkdir -p "$stage"
    mount -t tmpfs -o mode=755,nosuid bed-dev "$stage"
    for node in /dev/*; do
        case ${node##*/} in
            kvm|pts|shm|mqueue|hugepages) ;;
            *) cp -a "$node" "$stage/" ;;
        esac
    done
    for node in pts shm mqueue hugepages; do
        [[ -d /dev/$node ]] || continue
        mkdir "$stage/$node"
        mount --rbind "/dev/$node" "$stage/$node"
    done
    # Open to everybody, as udev makes them.
    mkdir -p "$stage/net"
    [[ -e $stage/fuse ]] || mknod "$stage/fuse" c 10 229
    [[ -e $stage/net/tun ]] || mknod "$stage/net/tun" c 10 200
    chmod 666 "$stage/fuse" "$stage/net/tun"
    uncover /dev
    mount --move "$stage" /dev
}

# Put SCRIPT in the place of QEMU, and QEMU itself into /run/qemu; it looks for
# its firmware beside the directory in which it is.
wrap_qemu () {
    local script=$1 qemu=/usr/bin/qemu-system-x86_64
    mkdir -p /run/qemu/bin
    ln -s /usr/lib /usr/share /run/qemu/
    touch "/run/qemu/bin/${qemu##*/}"
    mount --bind "$qemu" "/run/qemu/bin/${qemu##*/}"
    mount --bind "$script" "$qemu"
}
