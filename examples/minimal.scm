;;; SPDX-License-Identifier: GPL-3.0-or-later
;;
;; One machine: a Guix System, and the libvirt domain around it.
;; Log in on its console as root, without a password.

(use-modules (gnu))
(use-service-modules networking virtualization)

(define %minimal-os
  (operating-system
    (host-name "minimal")
    (timezone "Etc/UTC")
    (bootloader (bootloader-configuration
                  (bootloader grub-bootloader)
                  (targets '("/dev/vda"))
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

(virtual-machine
  (operating-system %minimal-os)
  (libvirt-domain
    (cpu 2)
    (memory 2G)
    (storage 10G)
    (networking (mac-address 52:54:00:ab:cd:ef)))
  (ready (list (address) (console "login:")))
  (ready-timeout 300))
