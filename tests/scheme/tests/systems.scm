;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (tests systems)
  #:use-module (gnu)
  #:use-module (gnu image)
  #:use-module (gnu services networking)
  #:use-module (gnu system image)
  #:export (%os
            %network-os
            %efi-os
            %btrfs-os
            make-image))

;;; Commentary:
;;;
;;; Operating systems for the tests to declare machines with.
;;;
;;; Code:

(define %os
  (operating-system
    (host-name "host")
    (timezone "Etc/UTC")
    (bootloader (bootloader-configuration
                  (bootloader grub-bootloader)
                  (targets '("/dev/vda"))
                  (timeout 0)))
    (kernel-arguments '("quiet"))
    (file-systems (cons (file-system
                          (mount-point "/")
                          (device (file-system-label "Guix_image"))
                          (type "ext4"))
                        %base-file-systems))))

(define %network-os
  (operating-system
    (inherit %os)
    (services (cons (service dhcpcd-service-type) %base-services))))

(define %efi-os
  (operating-system
    (inherit %os)
    (bootloader (bootloader-configuration
                  (bootloader grub-efi-bootloader)
                  (targets '("/boot/efi"))
                  (timeout 0)))))

(define %btrfs-os
  (operating-system
    (inherit %os)
    (file-systems (cons (file-system
                          (mount-point "/")
                          (device (file-system-label "Guix_image"))
                          (type "btrfs"))
                        %base-file-systems))))

(define* (make-image type #:key (os %efi-os) (base efi-disk-image)
                     (format (image-format base))
                     (partitions (lambda (esp root) (list esp root))))
  "Return BASE with OS in it, and a root partition of TYPE where PARTITIONS puts it."
  (image
    (inherit base)
    (format format)
    (operating-system os)
    (partitions (partitions esp-partition/grub
                            (partition
                              (inherit root-partition)
                              (file-system type)
                              (file-system-options '()))))))
