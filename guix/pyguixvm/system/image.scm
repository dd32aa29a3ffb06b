;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm system image)
  #:use-module (pyguixvm diagnostics)
  #:use-module (pyguixvm json)
  #:use-module (pyguixvm libvirt)
  #:use-module (pyguixvm machine)
  #:use-module (pyguixvm system assembled-image)
  #:use-module (pyguixvm system bootable)
  #:use-module (pyguixvm system direct-boot)
  #:use-module (pyguixvm system grafting)
  #:use-module (pyguixvm system guest)
  #:use-module (gnu bootloader)
  #:use-module (gnu image)
  #:use-module (gnu system)
  #:use-module (gnu system file-systems)
  #:use-module (gnu system image)
  #:use-module (gnu system uuid)
  #:use-module (gcrypt hash)
  #:use-module (guix base32)
  #:use-module (guix derivations)
  #:use-module (guix diagnostics)
  #:use-module (guix gexp)
  #:use-module (guix grafts)
  #:use-module (guix monads)
  #:use-module (guix store)
  #:use-module ((guix utils) #:select (%current-system))
  #:use-module (ice-9 match)
  #:use-module (rnrs bytevectors)
  #:use-module (srfi srfi-1)
  #:use-module (srfi srfi-9)
  #:export (validate-system-image
            machine-image-derivation
            machine-system-derivation
            machine-image-operating-system
            lower-system-image
            system-image->json))

;;; Commentary:
;;;
;;; The disk image that Guix makes of a machine's operating-system or of its <image>.
;;; Its derivations are the very ones that 'guix system' computes for the same
;;; operating-system.  What follows 'process-action' and 'perform-action' in (guix
;;; scripts system) is marked as such.
;;;
;;; Code:


;;;
;;; Rules.
;;;

(define (image-root-partition image)
  "Return the root <partition> of IMAGE, an <image>, or #f."
  ;; As 'find-root-partition' in (gnu system image), which is private and raises an error.
  (find (lambda (partition)
          (memq 'boot (partition-flags partition)))
        (image-partitions image)))

(define (validate-guix-image machine image)
  "Refuse MACHINE if IMAGE, its <image>, is none that it could start from or grow."
  (define root (image-root-partition image))

  (define (refuse-image message hint)
    (refuse (virtual-machine-place machine 'image) message #:hint hint))

  (unless (operating-system? (image-operating-system image))
    (refuse-image "image: it has no operating-system"
                  "Add (operating-system …) to the 'image'."))
  (unless (eq? 'disk-image (image-format image))
    (refuse-image (format #f "image: its format is '~a', not 'disk-image'"
                          (image-format image))
                  "Inherit from mbr-hybrid-disk-image or efi-disk-image."))
  (unless root
    (refuse-image "image: none of its partitions is the root"
                  "Add (flags '(boot)) to the one that is."))
  (unless (eq? root (last (image-partitions image)))
    (refuse-image "image: its root is not the last of its partitions, and could not grow"
                  "List it last."))
  (let ((type (partition-file-system root)))
    (unless (member type '("ext4" "btrfs"))
      (refuse-image (format #f "image: a root of type '~a' is not supported yet" type)
                    "It may be \"ext4\" or \"btrfs\"."))
    (when (and (string=? "btrfs" type)
               (not (eq? 'uefi (libvirt-domain-firmware
                                (virtual-machine-libvirt-domain machine)))))
      ;; 'install-grub-disk-image' in (gnu bootloader grub).
      (refuse-image "image: Guix makes no image that starts from btrfs with the \
firmware 'bios"
                    "Add (firmware 'uefi) to the libvirt-domain."))))

(define (validate-root machine os)
  ;; Guix makes the root of an image from an operating-system ext4, whatever the
  ;; declaration says: (gnu system image).
  (let ((root (declared-root os)))
    (when (and root (string=? "btrfs" (file-system-type root)))
      (refuse (or (source-properties->location (file-system-location root))
                  (virtual-machine-place machine 'operating-system))
              "file-systems: of an operating-system, Guix makes an image with an \
ext4 root, not btrfs"
              #:hint "Declare \"/\" with the type \"ext4\", or give the machine \
an 'image' whose root partition is btrfs instead of the operating-system."))))

(define (validate-system-image machine)
  "Refuse MACHINE if its <image>, or that of its operating-system, is none that it could
start from or grow."
  (match (machine-guix-image machine)
    (#f    (validate-root machine (virtual-machine-operating-system machine)))
    (image (validate-guix-image machine image))))


;;;
;;; Derivations.
;;;

(define (machine-image-type machine)
  "Return the <image-type> for MACHINE's firmware, or #f for a MACHINE with an <image> of
its own."
  (and (not (machine-guix-image machine))
       (match (libvirt-domain-firmware (virtual-machine-libvirt-domain machine))
         ('uefi efi-raw-image-type)
         ('bios mbr-hybrid-raw-image-type))))

(define (base-image machine)
  "Return the <image> of MACHINE, as declared or of the image type."
  (let ((os (effective-operating-system machine)))
    (match (machine-guix-image machine)
      (#f       (os->image os #:type (machine-image-type machine)))
      (declared (image (inherit declared) (operating-system os))))))

(define (root-file-system-type machine)
  "Return the type of the root file system in the image of MACHINE.  What its
operating-system declares says nothing about that: Guix replaces it."
  (partition-file-system (image-root-partition (base-image machine))))

(define (machine-disk-image machine)
  "Return the <image> of MACHINE, as 'process-action' makes it."
  (image
   (inherit (base-image machine))
   (size 'guess)
   (volatile-root? #f)
   (shared-network? #f)))

(define (machine-image-operating-system machine)
  "Return the operating-system in the disk image of MACHINE, which is the declared one
with another root."
  (operating-system-for-image (machine-disk-image machine)))

(define (machine-image-derivation machine)
  "Return, as a monadic value, the derivation of the disk image of MACHINE."
  ;; As 'system-derivation-for-action' and 'perform-action' do.
  (mlet* %store-monad ((image (lower-object
                               (system-image (machine-disk-image machine))))
                       (drvs  (mapm/accumulate-builds lower-object
                                                      (list image))))
    (return (car drvs))))

(define (machine-system-derivation machine)
  "Return, as a monadic value, the derivation of the operating-system of MACHINE
without grafts: computing it builds nothing."
  (ungrafted (operating-system-derivation (effective-operating-system machine))))


;;;
;;; What an image consists of.
;;;

;; What fills the root partition of an image.  Two images of one LAYOUT differ in
;; nothing but their content.
(define-record-type <image-content>
  (make-image-content layout root-uuid system boot-configuration
                      boot-configuration-file boot assembled)
  image-content?
  (layout                  image-content-layout)              ;string
  (root-uuid               image-content-root-uuid)           ;string
  (system                  image-content-system)              ;<derivation>
  (boot-configuration      image-content-boot-configuration)  ;<derivation>
  (boot-configuration-file image-content-boot-configuration-file) ;string
  (boot                    image-content-boot)                ;<direct-boot> | #f
  (assembled               image-content-assembled))          ;<derivation> | #f

(define (root-uuid os)
  "Return the UUID of the root file system of OS, made for an image, as a string."
  (uuid->string (file-system-device (operating-system-root-file-system os))))

(define (partition-layout image partition)
  "Return what is told of PARTITION of IMAGE by its <image> alone."
  (list (partition-offset partition)
        (partition-file-system partition)
        (partition-file-system-options partition)
        (partition-label partition)
        (partition-flags partition)
        ;; Those of the root follow from the content.
        (and (not (eq? partition (image-root-partition image)))
             (list (partition-size partition)
                   (and=> (partition-uuid partition) uuid->string)))))

(define (code->datum code)
  "Return, as a monadic value, what tells CODE, a gexp, or what stands for one, from
another."
  (with-monad %store-monad
    (if (gexp? code)
        (mlet %store-monad ((lowered (lower-gexp code)))
          (return (list (lowered-gexp-sexp lowered)
                        ;; Where its modules are.
                        (lowered-gexp-load-path lowered))))
        (return code))))

(define (image-code image bootloader)
  "Return the gexps that run while the disk of IMAGE is made, as 'system-image' has them."
  (append (map partition-initializer (image-partitions image))
          (list (bootloader-installer bootloader)
                (bootloader-disk-image-installer bootloader))))

(define (image-layout image bootloader package code)
  "Return a digest of all that makes the disk of IMAGE but for its content.  PACKAGE
is the derivation of BOOTLOADER, or #f; CODE are data for what runs meanwhile."
  (bytevector->nix-base32-string
   (sha256
    (string->utf8
     (object->string
      (list (image-format image)
            (image-partition-table-type image)
            (map (lambda (partition)
                   (partition-layout image partition))
                 (image-partitions image))
            (bootloader-name bootloader)
            (bootloader-configuration-file bootloader)
            (and=> package derivation-file-name)
            code))))))

(define (machine-assembled-image image system bootcfg bootloader empty uuid)
  "Return, as a monadic value, the derivation of the image of SYSTEM and BOOTCFG with a
root called by UUID, as 'system-image' makes it of IMAGE, that is assembled on EMPTY; #f if
that is #f.  All of them are derivations."
  (if empty
      (lower-object (assembled-image image system bootcfg bootloader empty uuid))
      (with-monad %store-monad
        (return #f))))

(define %empty-images
  ;; As an evaluator's workers inherit it, they seldom have one to compute.
  (allocate-store-connection-cache 'pyguixvm-empty-images))

(define (empty-image-derivation image bootloader layout)
  "Return, as a monadic value, the derivation of the image of an empty system that has
LAYOUT, as IMAGE with BOOTLOADER does, or #f if no image can be assembled on it."
  (if (can-assemble? image)
      (mcached equal? (=> %empty-images)
               (lower-object (empty-image image bootloader))
               layout (%current-system) (%graft?))
      (with-monad %store-monad
        (return #f))))

(define (machine-image-content machine)
  "Return, as a monadic value, the <image-content> of the disk image of MACHINE."
  ;; As 'system-image' does.
  (let* ((image      (machine-disk-image machine))
         (os         (operating-system-for-image image))
         (bootloader (bootloader-configuration-bootloader
                      (operating-system-bootloader os)))
         (package    (bootloader-package bootloader)))
    (mlet* %store-monad ((system    (lower-object os))
                         (bootcfg   (lower-object (operating-system-bootcfg os)))
                         (loader    (if package
                                        (lower-object package)
                                        (return #f)))
                         (code      (mapm %store-monad code->datum
                                          (image-code image bootloader)))
                         (boot      (lower-direct-boot
                                     os
                                     (file-system-device
                                      (operating-system-root-file-system os))
                                     ;; Its own boot loader starts it as well.
                                     #:otherwise (const #f)))
                         (layout -> (image-layout image bootloader loader code))
                         (empty     (empty-image-derivation image bootloader layout))
                         (assembled (machine-assembled-image image system bootcfg
                                                             bootloader empty
                                                             (root-uuid os))))
      (return (make-image-content layout
                                  (root-uuid os)
                                  system
                                  bootcfg
                                  (bootloader-configuration-file bootloader)
                                  boot
                                  assembled)))))


;;;
;;; The kind of image.
;;;

(define (lower-system-image machine want)
  "Return, as a monadic value, the image and system derivations of MACHINE and the
content of its image as a list, each #f unless WANT, a symbol, asks for it."
  (define-syntax-rule (if-wanted symbols mvalue)
    (if (memq want symbols) mvalue (return #f)))

  (mlet* %store-monad ((image   (if-wanted '(derivations images)
                                           (machine-image-derivation machine)))
                       (system  (if-wanted '(systems images)
                                           (machine-system-derivation machine)))
                       (content (if-wanted '(images)
                                           (machine-image-content machine))))
    (return (list image system content))))

(define (image-content->json content)
  (object ("layout"                  (image-content-layout content))
          ("root-uuid"               (image-content-root-uuid content))
          ("system"                  (derivation->json
                                      (image-content-system content)))
          ("boot-configuration"      (derivation->json
                                      (image-content-boot-configuration content)))
          ("boot-configuration-file" (image-content-boot-configuration-file
                                      content))
          ("boot"                    (and=> (image-content-boot content)
                                            direct-boot->json))
          ("assembled"               (and=> (image-content-assembled content)
                                            derivation->json))))

(define (system-image->json machine lowered)
  "Return the JSON of the image of MACHINE; LOWERED is what 'lower-system-image' gave,
or #f."
  (match (or lowered '(#f #f #f))
    ((image system content)
     `(,@(object ("kind" "system"))
       ,@(operating-system->json (effective-operating-system machine))
       ,@(object
          ("image-type"       (and=> (machine-image-type machine)
                                     (compose symbol->string image-type-name)))
          ("root-file-system" (root-file-system-type machine))
          ("derivation"       (and=> image derivation-file-name))
          ("output"           (and=> image derivation->output-path))
          ("system"           (and=> system derivation-file-name))
          ("content"          (and=> content image-content->json)))))))
