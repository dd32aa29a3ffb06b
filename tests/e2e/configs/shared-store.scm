;;; SPDX-License-Identifier: GPL-3.0-or-later
;; A machine with a disk of its own and a directory that persists.  A test edits what its
;; system has.
(use-modules (gnu)
             (quick))
(use-service-modules networking virtualization)

(define edition "one")

(virtual-machine
  (name "shared")
  (operating-system
    (operating-system
      (host-name "shared")
      (initrd-modules %quick-initrd-modules)
      (kernel-arguments %quick-kernel-arguments)
      (bootloader (bootloader-configuration
                    (bootloader grub-bootloader)
                    (targets '("/dev/vda"))))
      (file-systems (cons (file-system
                            (mount-point "/")
                            (device (file-system-label "Guix_image"))
                            (type "ext4"))
                          %base-file-systems))
      (services (cons* (service dhcpcd-service-type
                                (dhcpcd-configuration
                                  (extra-content "noarp\nnodelay\n")))
                       (service qemu-guest-agent-service-type)
                       (extra-special-file "/etc/edition"
                                           (plain-file "edition" edition))
                       ;; What runs from its host's store makes no key, if it is not
                       ;; told so.
                       (modify-services %quick-services
                         (guix-service-type
                          config =>
                          (guix-configuration
                            (inherit config)
                            (generate-substitute-key? #t))))))))
  (libvirt-domain
    (cpu 1)
    (memory 512M)
    (storage 5G)
    (kernel-arguments '("console=ttyS0" "declared=yes"))
    (networking (mac-address 52:54:00:ab:cd:07))
    (disks (data-disk (name "db") (size 128M) (target "/srv/db")))
    (autostart? #f))
  (persist '("/var/lib/notes"))
  (ready (list (address) (console "login:") (guest-agent)))
  (ready-timeout 300))
