;;; SPDX-License-Identifier: GPL-3.0-or-later
;;;
;;; (quick) -- less of a Guix System, for guests of tests, whose processor is emulated.

(define-module (quick)
  #:use-module (gnu services)
  #:use-module (gnu services base)
  #:use-module (gnu system)
  #:export (%quick-services
            %quick-initrd-modules
            %quick-kernel-arguments))

;;; Commentary:
;;;
;;; What takes a guest long when it boots, and nothing in a test asks for.  The examples
;;; and README.md's machine boot with all of it.
;;;
;;; Code:

(define %quick-services
  ;; Nobody looks at the screens.  Making a key pair takes a sixth of the first boot.
  (modify-services %base-services
    (delete console-font-service-type)
    (delete mingetty-service-type)
    (delete nscd-service-type)
    (guix-service-type
     config =>
     (guix-configuration
       (inherit config)
       (generate-substitute-key? #f)))))

(define %quick-initrd-modules
  ;; The drivers of what a domain has.
  '("virtio_pci" "virtio_blk" "virtio_net" "virtio_console"))

(define %quick-kernel-arguments
  ;; udev would load drivers of what nothing is attached to: a disk controller, a mouse.
  ;; Guile would compile what runs once, and the emulator that again; what the kernel does not
  ;; know it has in the environment of the first process.
  (cons* "modprobe.blacklist=ahci,psmouse"
         "GUILE_JIT_THRESHOLD=-1"
         %default-kernel-arguments))
