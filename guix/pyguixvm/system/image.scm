;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm system image)
  #:use-module (pyguixvm system local-image)
  #:use-module (pyguixvm system guest)
  #:use-module (pyguixvm libvirt)
  #:use-module (pyguixvm machine)
  #:use-module (gnu bootloader)
  #:use-module ((gnu image) #:hide (image-type-name))
  #:use-module (gnu system)
  #:use-module (gnu system file-systems)
  #:use-module (gnu system image)
  #:use-module (gnu system uuid)
  #:use-module (gcrypt hash)
  #:use-module (guix base32)
  #:use-module (guix derivations)
  #:use-module (guix gexp)
  #:use-module (guix grafts)
  #:use-module (guix monads)
  #:use-module (guix packages)
  #:use-module (guix scripts)
  #:use-module (guix scripts build)
  #:use-module (guix status)
  #:use-module (guix store)
  #:use-module (guix ui)
  #:use-module (guix utils)
  #:use-module (ice-9 match)
  #:use-module (rnrs bytevectors)
  #:use-module (srfi srfi-1)
  #:use-module (srfi srfi-9)
  #:export (call-with-guix
            grafts-wanted?
            open-guix-connection
            run-with-guix

            image-type-name
            machine-root-file-system
            machine-image-derivation
            machine-system-derivation
            machine-image-operating-system

            machine-image-content
            image-content-layout
            image-content-root-uuid
            image-content-system
            image-content-boot-configuration
            image-content-boot-configuration-file))

;;; Commentary:
;;;
;;; The derivations of a machine: the very ones that 'guix system' computes for the
;;; same operating-system.  What follows 'process-action' and 'perform-action' in
;;; (guix scripts system) is marked as such.
;;;
;;; Code:


;;;
;;; Build options.
;;;

(define %options
  (append %standard-build-options
          %standard-cross-build-options
          %standard-native-build-options))

(define %default-options
  ;; As 'guix system' has them.
  `((system . ,(%current-system))
    (target . #f)
    (substitutes? . #t)
    (offload? . #t)
    (print-build-trace? . #t)
    (print-extended-build-trace? . #t)
    (multiplexed-build-output? . #t)
    (graft? . #t)
    (debug . 0)
    (verbosity . 1)))

(define (build-options)
  "Return the build options that the variable GUIX_BUILD_OPTIONS asks for."
  (parse-command-line '() %options (list %default-options)))

(define (grafts-wanted?)
  "Is the user's software to be grafted?"
  (assoc-ref (build-options) 'graft?))

(define (run-with-guix store mvalue)
  "Run MVALUE, a monadic value, on STORE as 'guix system' does."
  (let ((options (build-options)))
    (run-with-store store
      (mbegin %store-monad
        (set-guile-for-build (default-guile))
        mvalue)
      #:target (assoc-ref options 'target)
      #:system (assoc-ref options 'system))))

(define* (call-with-guix proc #:key keep-going?)
  "Call PROC with a new connection to the store that obeys GUIX_BUILD_OPTIONS.  With
KEEP-GOING?, a build that fails does not end the others."
  (let* ((options      (let ((options (build-options)))
                         (if keep-going?
                             (alist-cons 'keep-going? #t options)
                             options)))
         (verbosity    (assoc-ref options 'verbosity))
         (substitutes? (assoc-ref options 'substitutes?)))
    (parameterize ((%graft? (assoc-ref options 'graft?)))
      (with-status-verbosity verbosity
        (with-store store
          (set-build-options-from-command-line store options)
          (with-build-handler (build-notifier #:use-substitutes? substitutes?
                                              #:verbosity verbosity)
            (proc store)))))))

(define (open-guix-connection)
  "Return a new connection to the store that obeys GUIX_BUILD_OPTIONS."
  (let ((store (open-connection)))
    (set-build-options-from-command-line store (build-options))
    store))


;;;
;;; Machines.
;;;

(define (image-type-name machine)
  "Return the name of the image type for MACHINE's firmware, or #f for a MACHINE with
an <image> of its own."
  (and (not (machine-guix-image machine))
       (case (libvirt-domain-firmware (virtual-machine-libvirt-domain machine))
         ((uefi) 'efi-raw)
         (else 'mbr-hybrid-raw))))

(define (base-image machine)
  "Return the <image> of MACHINE, as declared or of the image type."
  (let ((os (effective-operating-system machine)))
    (match (machine-guix-image machine)
      (#f       (os->image os #:type (lookup-image-type-by-name
                                      (image-type-name machine))))
      (declared (image (inherit declared) (operating-system os))))))

(define (machine-root-file-system machine)
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
  (mlet* %store-monad ((graft? (set-grafting #f))
                       (drv    (operating-system-derivation
                                (effective-operating-system machine)))
                       (_      (set-grafting graft?)))
    (return drv)))


;;;
;;; What an image consists of.
;;;

;; What fills the root partition of an image.  Two images of one LAYOUT differ in
;; nothing but their content.
(define-record-type <image-content>
  (make-image-content layout root-uuid system boot-configuration
                      boot-configuration-file)
  image-content?
  (layout                  image-content-layout)              ;string
  (root-uuid               image-content-root-uuid)           ;string
  (system                  image-content-system)              ;<derivation>
  (boot-configuration      image-content-boot-configuration)  ;<derivation>
  (boot-configuration-file image-content-boot-configuration-file)) ;string

(define (root-uuid os)
  "Return the UUID of the root file system of OS, made for an image, as a string."
  (uuid->string
   (file-system-device
    (find (lambda (file-system)
            (string=? "/" (file-system-mount-point file-system)))
          (operating-system-file-systems os)))))

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

(define (image-layout image bootloader package)
  "Return a digest of all that makes the disk of IMAGE but for its content.  PACKAGE
is the derivation of BOOTLOADER, or #f."
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
            (and=> package derivation-file-name)))))))

(define (machine-image-content machine)
  "Return, as a monadic value, the <image-content> of the disk image of MACHINE."
  ;; As 'system-image' does.
  (let* ((image      (machine-disk-image machine))
         (os         (operating-system-for-image image))
         (bootloader (bootloader-configuration-bootloader
                      (operating-system-bootloader os)))
         (package    (bootloader-package bootloader)))
    (mlet %store-monad ((system  (lower-object os))
                        (bootcfg (lower-object (operating-system-bootcfg os)))
                        (loader  (if package
                                     (lower-object package)
                                     (return #f))))
      (return (make-image-content (image-layout image bootloader loader)
                                  (root-uuid os)
                                  system
                                  bootcfg
                                  (bootloader-configuration-file bootloader))))))
