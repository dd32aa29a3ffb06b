;;; SPDX-License-Identifier: GPL-3.0-or-later
;;
;; Two machines that have most things in common.  What the database keeps outlives its
;; system; so do the web server's ssh host keys, without being asked to.

(use-modules (gnu))
(use-service-modules networking ssh virtualization)

(define (os host-name . services)
  (operating-system
    (host-name host-name)
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
                     (append services %base-services)))))

(define web
  (virtual-machine
    (operating-system (os "web" (service openssh-service-type)))
    (libvirt-domain
      (memory 1G)
      (storage 5G)
      (title "Web server"))
    (ready (list (tcp-port 22)))
    (ready-timeout 300)))

(define db
  (virtual-machine
    (inherit web)
    (operating-system (os "db"))
    (libvirt-domain
      (inherit (virtual-machine-libvirt-domain web))
      (memory 2G)
      (disks (data-disk
               (name "db")
               (size 20G)
               (target "/var/lib/postgresql")))
      (title "Database"))
    (ready (list (guest-agent)))))

(list web db)
