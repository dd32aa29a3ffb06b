;;; SPDX-License-Identifier: GPL-3.0-or-later
;;;
;;; A guest that its host can talk to: QEMU's agent, and a key for root.

(use-modules (gnu))
(use-service-modules networking ssh virtualization)

(operating-system
  (host-name "agent")
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
                   (service openssh-service-type
                            (openssh-configuration
                             (permit-root-login 'prohibit-password)
                             (authorized-keys
                              `(("root" ,(local-file "key.pub"))))))
                   (service qemu-guest-agent-service-type)
                   %base-services)))
