;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm derivations)
  #:use-module (pyguixvm disk-image)
  #:use-module (pyguixvm guest)
  #:use-module (pyguixvm records)
  #:use-module ((gnu image) #:hide (image-type-name))
  #:use-module (gnu system)
  #:use-module (gnu system image)
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
  #:export (call-with-guix
            grafts-wanted?
            open-guix-connection
            run-with-guix

            image-type-name
            machine-root-file-system
            machine-image-derivation
            machine-system-derivation))

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

(define (call-with-guix proc)
  "Call PROC with a new connection to the store that obeys GUIX_BUILD_OPTIONS."
  (let* ((options      (build-options))
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
