;;; SPDX-License-Identifier: GPL-3.0-or-later
;;;
;;; Nearly nothing but defaults, with DHCP and an OpenSSH server.

(use-modules (gnu))
(use-service-modules networking ssh)

(operating-system
  (host-name "base")
  (kernel-arguments '("console=ttyS0"))
  (bootloader (bootloader-configuration
               (bootloader grub-bootloader)
               (timeout 1)
               (targets '("/dev/vda"))))
  (file-systems (cons (file-system
                        (mount-point "/")
                        (device (file-system-label "Guix_image"))
                        (type "ext4"))
                      %base-file-systems))
  (services (cons* (service dhcpcd-service-type)
                   (service openssh-service-type)
                   %base-services)))
