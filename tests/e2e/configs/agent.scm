;;; SPDX-License-Identifier: GPL-3.0-or-later
;; A machine that answers questions: with the guest agent, in the notation of
;; the manual.  PYGUIXVM_TEST_* let a test change one thing at a time.
(use-modules (gnu)
             (quick))
(use-service-modules networking virtualization)

(define %memory (or (getenv "PYGUIXVM_TEST_MEMORY") "512M"))

(virtual-machine
  (name "agent")
  (operating-system
    (operating-system
      (host-name "agent")
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
                       (service qemu-guest-agent-service-type)
                       %quick-services))))
  (libvirt-domain
    (cpu 2)
    (memory %memory)
    (storage 5G)
    (kernel-arguments '("console=ttyS0"))
    (networking (mac-address 52:54:00:ab:cd:ef))
    (title "Agent & <friends>"))
  (ready (list (address) (console "login:") (guest-agent)))
  (ready-timeout 300))
