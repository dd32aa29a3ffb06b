;;; SPDX-License-Identifier: GPL-3.0-or-later
;;;
;;; A Btrfs root: 'guix system image' takes the type of the root file system
;;; from an <image>, and GRUB reads Btrfs only where it starts from an ESP.

(use-modules (gnu) (gnu image) (gnu system image))
(use-service-modules networking)

(image
 (inherit efi-disk-image)
 (name 'btrfs.img)
 (partitions (list esp-partition/grub
                   (partition
                    (inherit root-partition)
                    (file-system "btrfs")
                    (file-system-options '()))))
 (operating-system
   (operating-system
     (host-name "btrfs")
     (kernel-arguments '("console=ttyS0"))
     (bootloader (bootloader-configuration
                  (bootloader grub-efi-bootloader)
                  (timeout 1)
                  (targets '("/boot/efi"))))
     (file-systems (cons (file-system
                           (mount-point "/")
                           (device (file-system-label "Guix_image"))
                           (type "btrfs"))
                         %base-file-systems))
     (services (cons (service dhcpcd-service-type)
                     %base-services)))))
