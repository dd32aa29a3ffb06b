;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm system vm)
  #:use-module (pyguixvm json)
  #:use-module (pyguixvm storage)
  #:use-module (pyguixvm system direct-boot)
  #:use-module (pyguixvm system grafting)
  #:use-module (pyguixvm system guest)
  #:use-module (gnu services)
  #:use-module (gnu services base)
  #:use-module (gnu system)
  #:use-module (gnu system file-systems)
  #:use-module ((guix derivations) #:select (derivation-file-name))
  #:use-module (guix gexp)
  #:use-module (guix monads)
  #:use-module (guix store)
  #:use-module (srfi srfi-1)
  #:use-module (srfi srfi-9)
  #:export (%root-label
            %store-mount-point
            shared-store-operating-system
            lower-shared-store
            shared-store->json))

;;; Commentary:
;;;
;;; A machine that runs from the store of its host: no image is made of its
;;; operating-system, whose kernel the hypervisor starts itself.  This is what 'guix
;;; system vm' does, but the root is a disk of the machine's own, found by its label,
;;; and all that the operating-system declares beside it stays, but for what drives
;;; hardware that is not there.
;;;
;;; Code:

(define %root-label
  ;; Of the file system on the root disk; ext4 has room for 16 letters.
  "pyguixvm-root")

(define %store-mount-point
  ;; As the hypervisor is to share it: the file system below is what mounts it.  No user
  ;; may mount anything there.
  (%mount-point (source (%store-prefix))
                (target (%store-prefix))
                (tag "pyguixvm-store")
                (read-only? #t)
                (driver "9p")))

(define %root-file-system
  (file-system
    (mount-point "/")
    (device (file-system-label %root-label))
    (type "ext4")))

(define %store-file-system
  ;; As 'mapping->file-system' in (gnu system vm) has it, which is private.  More
  ;; than this msize Linux does not take over virtio.
  (file-system
    (mount-point (%store-prefix))
    (device (mount-point-tag %store-mount-point))
    (type "9p")
    (flags '(read-only))
    (options "trans=virtio,version=9p2000.L,cache=loose,msize=512000")
    (check? #f)
    (create-mount-point? #t)
    (needed-for-boot? #t)))

(define (of-the-image? file-system)
  "Does FILE-SYSTEM lie on the disk that Guix makes of an image, is it the root, or is
it the store?"
  (let ((device (file-system-device file-system)))
    (or (member (file-system-mount-point file-system) (list "/" (%store-prefix)))
        (and (string? device) (string-prefix? "/dev/vda" device))
        (and (file-system-label? device)
             (member (file-system-label->string device)
                     '("Guix_image" "GNU-ESP"))))))

(define %modules-for-other-hardware
  ;; Of 'default-initrd-modules' in (gnu system linux-initrd), the drivers of disks and
  ;; keyboards that no domain of ours has; where somebody adds such a device to a
  ;; running guest, udev loads them.  Without KVM they take a tenth of the boot.
  '("ahci" "usb-storage" "uas" "usbhid" "hid-generic" "hid-apple" "mmc_block"
    "pata_acpi" "pata_atiixp" "isci"))

(define %modules-for-encrypted-devices
  '("dm-crypt" "xts" "serpent_generic" "wp512"))

(define (initrd-modules-needed os)
  "Return the modules of OS's initial RAM disk that it needs in a domain of ours."
  (lset-difference string=?
                   (operating-system-initrd-modules os)
                   %modules-for-other-hardware
                   (if (null? (operating-system-mapped-devices os))
                       %modules-for-encrypted-devices
                       '())))

(define (service-of? type)
  (lambda (service)
    (eq? type (service-kind service))))

(define (without-signing-key services)
  "Return SERVICES, where Guix makes no key as the system is activated, unless something is
to be signed: each generation's root is empty, so that each would make one, which takes a
twentieth of the boot, and there is nothing that Guix could build there."
  (if (any (service-of? guix-publish-service-type) services)
      services
      (map (lambda (declared)
             (if ((service-of? guix-service-type) declared)
                 (service guix-service-type
                          (guix-configuration
                            (inherit (service-value declared))
                            (generate-substitute-key? #f)))
                 declared))
           services)))

(define (shared-store-operating-system os)
  "Return OS as it runs from the store of its host."
  (operating-system
    (inherit os)
    (location (operating-system-location os))     ;which is not inherited
    (initrd-modules (initrd-modules-needed os))
    (services (without-signing-key (operating-system-user-services os)))
    (file-systems (cons* %root-file-system
                         %store-file-system
                         (remove of-the-image? (operating-system-file-systems os))))))

;; What a hypervisor starts: the operating system, and how.
(define-record-type <shared-system>
  (make-shared-system derivation ungrafted boot)
  shared-system?
  (derivation shared-system-derivation)           ;<derivation>
  (ungrafted  shared-system-ungrafted)            ;<derivation>
  (boot       shared-system-boot))                ;<direct-boot>

(define (lower-shared-store machine want)
  "Return, as a monadic value, the <shared-system> of MACHINE, whatever WANT asks for."
  (let ((os (shared-store-operating-system (effective-operating-system machine))))
    (mlet* %store-monad
        ((derivation (lower-object os))
         (ungrafted  (ungrafted (lower-object os)))
         (boot       (lower-direct-boot os (file-system-device %root-file-system))))
      (return (make-shared-system derivation ungrafted boot)))))

(define (shared-store->json machine system)
  "Return the JSON of MACHINE's operating-system, run from the store of its host;
SYSTEM is its <shared-system>, or #f if that was not computed."
  `(,@(object ("kind" "shared-store"))
    ,@(operating-system->json (effective-operating-system machine))
    ,@(object
       ("root-label" %root-label)
       ("system"     (and=> system
                            (compose derivation->json shared-system-derivation)))
       ("boot"       (and=> system
                            (compose direct-boot->json shared-system-boot)))
       ("ungrafted"  (and=> system
                            (compose derivation-file-name
                                     shared-system-ungrafted))))))
