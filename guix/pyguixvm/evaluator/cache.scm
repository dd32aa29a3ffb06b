;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm evaluator cache)
  #:use-module (pyguixvm evaluator guix)
  #:use-module (pyguixvm evaluator load)
  #:use-module (pyguixvm evaluator store)
  #:use-module (pyguixvm machine)
  #:use-module (pyguixvm system image)
  #:use-module (guix grafts)
  #:use-module (guix store)
  #:use-module (system base compile)
  #:export (warm-up))

;;; Commentary:
;;;
;;; Most of the time that it takes to compute the derivation of a system goes into
;;; those of packages which all systems share.  An evaluator computes a sample once
;;; and lets its workers inherit what it learned.
;;;
;;; The connection on which it did so stays open: as long as it is, the daemon
;;; keeps the derivations from the garbage collector.
;;;
;;; Code:

(define %sample
  ;; Compiled as a configuration would be, which also loads the compiler.
  '(begin
     (use-modules (gnu))
     (use-service-modules networking ssh virtualization)
     (operating-system
       (host-name "sample")
       (timezone "Etc/UTC")
       (bootloader (bootloader-configuration
                     (bootloader grub-bootloader)
                     (targets '("/dev/vda"))))
       (file-systems (cons (file-system
                             (mount-point "/")
                             (device (file-system-label "Guix_image"))
                             (type "ext4"))
                           %base-file-systems))
       (services (cons* (service dhcpcd-service-type)
                        (service openssh-service-type)
                        (service qemu-guest-agent-service-type)
                        %base-services)))))

(define (sample-machine)
  (operating-system->machine
   (save-module-excursion
    (lambda ()
      (let ((module (make-configuration-module)))
        (set-current-module module)
        (compile %sample #:env module #:optimization-level 1))))))

(define (warm-up)
  "Return an open connection to the store whose caches know a usual system."
  (recognize-objects!)
  (let ((store   (open-guix-connection))
        (machine (sample-machine)))
    (define (lower)
      (run-with-guix store (lower-system-image machine 'images)))

    (parameterize ((%graft? #f))
      (lower))
    ;; What grafts need may have to be built, which is for the user to ask.
    (when (grafts-wanted?)
      (parameterize ((%graft? #t))
        (call-without-building lower)))
    store))
