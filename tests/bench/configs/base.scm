;;; SPDX-License-Identifier: GPL-3.0-or-later
;; What a user would have; 'guix system' takes it as well as pyguixvm does, which would
;; add to one with sshd what keeps its host keys.
(use-modules (gnu))
(use-service-modules networking virtualization)

(operating-system
  (host-name "bench")
  (bootloader (bootloader-configuration
                (bootloader grub-bootloader)
                (targets '("/dev/vda"))
                (timeout 1)))
  (file-systems (cons (file-system
                        (mount-point "/")
                        (device (file-system-label "Guix_image"))
                        (type "ext4"))
                      %base-file-systems))
  (services (cons* (service dhcpcd-service-type)
                   (service qemu-guest-agent-service-type)
                   (extra-special-file "/etc/edition" (plain-file "edition" "EDITION"))
                   %base-services)))
