;;; SPDX-License-Identifier: GPL-3.0-or-later
;;;
;;; (quick) -- less of a Guix System, for guests of tests, whose processor is emulated.

(define-module (quick)
  #:use-module (gnu services)
  #:use-module (gnu services base)
  #:use-module (gnu system)
  #:export (%quick-services
            %quick-initrd-modules
            %quick-kernel-arguments
            quick))

;;; Commentary:
;;;
;;; What takes a guest long when it boots, and nothing in a test asks for.  The examples
;;; and README.md's machine boot with all of it, but for those of firmware and btrfs.
;;;
;;; Code:

(define (without-slow services)
  "Return SERVICES, which have Guix's base services, without what takes long."
  ;; Nobody looks at the screens.  Making a key pair takes a sixth of the first boot.
  (modify-services services
    (delete console-font-service-type)
    (delete mingetty-service-type)
    (delete nscd-service-type)
    (guix-service-type
     config =>
     (guix-configuration
       (inherit config)
       (generate-substitute-key? #f)))))

(define %quick-services
  (without-slow %base-services))

(define %quick-initrd-modules
  ;; The drivers of what a domain has.
  '("virtio_pci" "virtio_blk" "virtio_net" "virtio_console"))

(define %quick-kernel-arguments
  ;; udev would load drivers of what nothing is attached to: a disk controller, a mouse.
  ;; Guile would compile what runs once, and the emulator that again; what the kernel does not
  ;; know it has in the environment of the first process.
  ;; From "nokaslr" on, it is what the kernel need not do or find out: a seventh of a boot.
  (cons* "modprobe.blacklist=ahci,psmouse"
         "GUILE_JIT_THRESHOLD=-1"
         "nokaslr" "mitigations=off" "cryptomgr.notests=1" "no_timer_check" "tsc=reliable"
         "lpj=4000000" "nowatchdog" "raid=noautodetect" "init_on_alloc=0"
         "page_alloc.shuffle=0" "8250.nr_uarts=1"
         %default-kernel-arguments))

(define (quick os)
  "Return OS, an example's operating-system, with less in it."
  (operating-system
    (inherit os)
    (initrd-modules %quick-initrd-modules)
    (kernel-arguments (append %quick-kernel-arguments
                              (operating-system-user-kernel-arguments os)))
    (services (without-slow (operating-system-user-services os)))))
