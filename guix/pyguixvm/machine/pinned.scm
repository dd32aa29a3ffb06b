;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm machine pinned)
  #:use-module (pyguixvm evaluator failure)
  #:use-module (pyguixvm evaluator handling)
  #:use-module (pyguixvm evaluator load)
  #:use-module (pyguixvm evaluator store)
  #:use-module (pyguixvm machine)
  #:use-module (pyguixvm system image)
  #:use-module (gnu system)
  #:use-module (gnu system file-systems)
  #:use-module (gnu system uuid)
  #:use-module (guix derivations)
  #:use-module (guix diagnostics)
  #:use-module (guix gexp)
  #:use-module (guix i18n)
  #:use-module (guix monads)
  #:use-module (guix store)
  #:use-module (ice-9 match)
  #:export (pin-root
            call-with-pinned-system))

;;; Commentary:
;;;
;;; The operating-system of a machine, for a guest that has its disk already.
;;;
;;; Code:

(define (pin-root os root-uuid)
  "Return OS with its root file system found by ROOT-UUID, a string: the one on the disk
that is there, where an image of OS would have another."
  (operating-system
    (inherit os)
    (location (operating-system-location os))     ;which is not inherited
    (file-systems
     (map (lambda (declared)
            (if (string=? "/" (file-system-mount-point declared))
                (file-system
                  (inherit declared)
                  (device (uuid root-uuid 'dce)))
                declared))
          (operating-system-file-systems os)))))

(define (expect system os)
  "Return, as a monadic value, whether OS is what has the derivation SYSTEM, a file name;
raise an error if it is not."
  (mlet %store-monad ((drv (lower-object os)))
    (unless (string=? system (derivation-file-name drv))
      (raise-exception
       (formatted-message (G_ "the configuration changed while it was deployed"))))
    (return #t)))

(define (call-with-pinned-system config name system root-uuid prepare proc)
  "Call PROC with a connection to the store, the machine NAME in CONFIG, and its
operating-system, the root pinned to ROOT-UUID; return the JSON that it returns, or that
of a failure.  SYSTEM is the derivation of that operating-system in an image, a file name:
with another one, it is not the declaration that was planned.  PREPARE is called with the
connection before it is used."
  (define (call configuration)
    (match (select-machines (deployment-machines (load-configuration configuration))
                            (list name) '())
      ((machine)
       (let ((os (machine-image-operating-system machine)))
         (call-with-guix
          (lambda (store)
            (prepare store)
            (run-with-guix store (expect system os))
            (proc store machine (pin-root os root-uuid))))))))

  (let ((result (call-with-configuration config call)))
    (if (failure? result)
        (failure->json result)
        result)))
