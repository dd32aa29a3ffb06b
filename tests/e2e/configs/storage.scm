;;; SPDX-License-Identifier: GPL-3.0-or-later
;; A machine whose data outlives it: ssh host keys, a data disk, directories of the
;; host.  PYGUIXVM_TEST_* say how it changes.
(use-modules (gnu)
             (quick))
(use-service-modules networking ssh virtualization)

(define* (setting name default)
  (or (getenv (string-append "PYGUIXVM_TEST_" name)) default))

(define written
  (mount-point (source (setting "WRITTEN" "/var/tmp/written"))
               (target "/written")
               (driver "9p")))

(define shared
  (mount-point (source (setting "SHARED" "/var/tmp/shared"))
               (target "/shared")
               (tag "shared")))

(define read
  (mount-point (source (setting "SHARED" "/var/tmp/shared"))
               (target "/read")
               (read-only? #t)))

(virtual-machine
  (name "storage")
  (operating-system
    (operating-system
      (host-name "storage")
      (initrd-modules %quick-initrd-modules)
      (kernel-arguments %quick-kernel-arguments)
      (bootloader (bootloader-configuration
                    (bootloader grub-bootloader)
                    (targets '("/dev/vda"))
                    (timeout 0)))
      (file-systems (cons (file-system
                            (mount-point "/")
                            (device (file-system-label "Guix_image"))
                            (type "ext4"))
                          %base-file-systems))
      (services (cons* (service dhcpcd-service-type
                                (dhcpcd-configuration
                                  (extra-content "noarp\nnodelay\n")))
                       (service openssh-service-type)
                       ;; The test bed's dhcpcd is Debian's: what it is known by, it
                       ;; has there.
                       (extra-special-file "/var/lib/dhcpcd" "/var/db/dhcpcd")
                       (service qemu-guest-agent-service-type)
                       (extra-special-file
                        "/etc/edition"
                        (plain-file "edition" (setting "EDITION" "one")))
                       %quick-services))))
  (libvirt-domain
    (storage 5G)
    (memory 512M)
    (kernel-arguments '("console=ttyS0"))
    (networking (mac-address 52:54:00:ab:cd:05))
    (mount-points (shared read written))
    (disks (append (list (data-disk (name "db")
                                    (size (setting "SIZE" "1G"))
                                    (target "/srv/db")))
                   (map (lambda (name)
                          (data-disk (name name) (size 128M)))
                        (string-tokenize (setting "MORE" "")))
                   (map (lambda (device)
                          (block-device device))
                        (string-tokenize (setting "DEVICES" "")))))
    (autostart? #f))
  (ready (list (address) (guest-agent)))
  (ready-timeout 300))
