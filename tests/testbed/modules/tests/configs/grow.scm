;;; SPDX-License-Identifier: GPL-3.0-or-later
;;;
;;; The root file system grows at boot; volumes of the host's are mounted.

(use-modules (gnu))
(use-package-modules linux)
(use-service-modules admin networking ssh virtualization)

(define %root
  (file-system
    (mount-point "/")
    (device (file-system-label "Guix_image"))
    (type "ext4")))

(operating-system
  (host-name "grow")
  (kernel-arguments '("console=ttyS0"))
  (bootloader (bootloader-configuration
               (bootloader grub-bootloader)
               (timeout 1)
               (targets '("/dev/vda"))))
  (file-systems (cons %root %base-file-systems))
  (packages (cons btrfs-progs %base-packages))
  (services (cons* (service dhcpcd-service-type)
                   (service openssh-service-type
                            (openssh-configuration
                             (permit-root-login 'prohibit-password)
                             (authorized-keys
                              `(("root" ,(local-file "key.pub"))))))
                   (service qemu-guest-agent-service-type)
                   (service resize-file-system-service-type
                            (resize-file-system-configuration
                             (file-system %root)))
                   %base-services)))
