# SPDX-License-Identifier: GPL-3.0-or-later
#
# Debian's kernel, unpacked in $kernel, with the modules that virtual machines
# and Guix's default initrd ask for, and those that these depend on.
release=$(ls $kernel/lib/modules | tail -n 1)
from=$kernel/lib/modules/$release
to=$out/lib/modules/$release
mkdir -p $to
cp $from/vmlinuz $out/bzImage
: > $out/System.map

# Devices of QEMU; file systems; input; sharing with the host; what Guix's
# default initrd lists (gnu/system/linux-initrd.scm).
for module in \
    virtio_pci virtio_mmio virtio_blk virtio_scsi virtio_net virtio_balloon \
    virtio-rng virtio_console virtio_input i6300esb qemu_fw_cfg \
    ahci ata_piix ata_generic sd_mod sr_mod nvme e1000 e1000e rtl8139 8139cp \
    ext4 btrfs vfat isofs overlay loop fuse configfs efivarfs \
    nls_ascii nls_cp437 nls_utf8 \
    evdev button psmouse xhci-pci ehci-pci uhci-hcd usbhid hid-generic \
    9p 9pnet_virtio virtiofs vsock vmw_vsock_virtio_transport \
    usb-storage uas hid-apple mmc_block dm-crypt dm-mod xts serpent_generic \
    wp512 pata_atiixp isci acpiphp
do
    modprobe -d $kernel -S $release --show-depends $module 2>/dev/null |
        sed -n 's|^insmod ||p' | sed 's| .*||'
done | sed 's|.*/lib/modules/[^/]*/||' | sort -u > list
while read file; do
    mkdir -p $to/${file%/*}
    case $file in
        *.xz) xz -dc $from/$file > $to/${file%.xz} ;;
        *.zst) zstd -dcq $from/$file > $to/${file%.zst} ;;
        *) cp $from/$file $to/$file ;;
    esac
done < list
cp $from/modules.builtin $from/modules.order $to/
[ ! -e $from/modules.builtin.modinfo ] || cp $from/modules.builtin.modinfo $to/

# Two modules of Guix's default initrd that Debian's kernel has not.
echo kernel/none/pata_acpi.ko >> $to/modules.builtin
[ -e $to/kernel/fs/nls/nls_iso8859-1.ko ] ||
    cp $to/kernel/fs/nls/nls_ascii.ko $to/kernel/fs/nls/nls_iso8859-1.ko
depmod -b $out $release
