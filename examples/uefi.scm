;;; SPDX-License-Identifier: GPL-3.0-or-later
;;
;; A machine with UEFI firmware: its bootloader has to be one for EFI.

(use-modules (gnu))
(use-service-modules networking virtualization)

(virtual-machine
  (operating-system
    (operating-system
      (host-name "uefi")
      (timezone "Etc/UTC")
      (bootloader (bootloader-configuration
                    (bootloader grub-efi-bootloader)
                    (targets '("/boot/efi"))
                    (timeout 0)))
      (kernel-arguments '("console=ttyS0"))
      (file-systems (cons (file-system
                            (mount-point "/")
                            (device (file-system-label "Guix_image"))
                            (type "ext4"))
                          %base-file-systems))
      (services (cons* (service dhcpcd-service-type)
                       (service qemu-guest-agent-service-type)
                       %base-services))))
  (libvirt-domain
    (memory 2G)
    (storage 10G)
    (firmware 'uefi))
  (ready-timeout 300))
