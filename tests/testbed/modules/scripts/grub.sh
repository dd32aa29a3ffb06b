# SPDX-License-Identifier: GPL-3.0-or-later
#
# GRUB for the platform $platform.
mkdir -p $out/lib/grub/$platform $out/share/grub
from=/usr/lib/grub/$platform
cp $from/*.mod $from/*.lst $out/lib/grub/$platform/
for file in $from/*.img; do
    [ ! -f $file ] || cp $file $out/lib/grub/$platform/
done
cp /usr/share/grub/unicode.pf2 $out/share/grub/
# (gnu bootloader grub) copies this catalogue.
catalogue=share/locale/en@quot/LC_MESSAGES/grub.mo
mkdir -p $out/${catalogue%/*}
cp /usr/$catalogue $out/$catalogue 2>/dev/null || : > $out/$catalogue

debian_tool grub-mkimage grub-mkstandalone grub-mkrescue grub-install \
            grub-mklayout
cat > $out/bin/grub-bios-setup <<'EOT'
#!/bin/sh
# Write boot.img to the MBR and core.img to the gap behind it, of an image
# file.  Debian's own wants a real device, and lacks the --root-device option
# that Guix's patch adds.
PATH=$PATH:/usr/bin; export PATH
set -e
directory=.; image=
while [ $# -gt 0 ]; do
    case $1 in
        -m | -r) shift ;;
        -d) shift; directory=$1 ;;
        *) image=$1 ;;
    esac
    shift
done
if [ "$(dd if=$image bs=1 skip=512 count=8 status=none)" = 'EFI PART' ]; then
    echo 'grub-bios-setup: a GPT without BIOS boot partition' >&2
    exit 1
fi
# The first partition starts 1 MiB from the start.
[ "$(stat -c %s $directory/core.img)" -le $((1048576 - 512)) ]
dd if=$directory/boot.img of=$image bs=1 count=440 conv=notrunc status=none
dd if=$directory/core.img of=$image bs=512 seek=1 conv=notrunc status=none
EOT
chmod 555 $out/bin/grub-bios-setup
