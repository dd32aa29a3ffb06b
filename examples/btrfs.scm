;;; SPDX-License-Identifier: GPL-3.0-or-later
;;
;; A machine with a btrfs root.  'guix system image' makes the root of an
;; operating-system ext4, so that it takes an image record to have another; and
;; GRUB reads btrfs only where it starts from an ESP.

(use-modules (gnu) (gnu image) (gnu system image))
(use-service-modules networking virtualization)

(virtual-machine
  (image
    (image
      (inherit efi-disk-image)
      (partitions (list esp-partition/grub
                        (partition
                          (inherit root-partition)
                          (file-system "btrfs")
                          (file-system-options '()))))
      (operating-system
        (operating-system
          (host-name "btrfs")
          (timezone "Etc/UTC")
          (bootloader (bootloader-configuration
                        (bootloader grub-efi-bootloader)
                        (targets '("/boot/efi"))
                        (timeout 0)))
          (kernel-arguments '("console=ttyS0"))
          (file-systems (cons (file-system
                                (mount-point "/")
                                (device (file-system-label "Guix_image"))
                                (type "btrfs"))
                              %base-file-systems))
          (services (cons* (service dhcpcd-service-type)
                           (service qemu-guest-agent-service-type)
                           %base-services))))))
  (libvirt-domain
    (memory 2G)
    (storage 10G)
    (firmware 'uefi))
  (ready-timeout 300))
