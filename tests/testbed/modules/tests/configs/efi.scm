;;; SPDX-License-Identifier: GPL-3.0-or-later
;;;
;;; For UEFI firmware: image types efi-raw and qcow2-gpt.

(use-modules (gnu))
(use-service-modules networking)

(operating-system
  (host-name "efi")
  (kernel-arguments '("console=ttyS0"))
  (bootloader (bootloader-configuration
               (bootloader grub-efi-bootloader)
               (timeout 1)
               (terminal-outputs '(console))
               (targets '("/boot/efi"))))
  (file-systems (cons (file-system
                        (mount-point "/")
                        (device (file-system-label "Guix_image"))
                        (type "ext4"))
                      %base-file-systems))
  (services (cons (service dhcpcd-service-type)
                  %base-services)))
