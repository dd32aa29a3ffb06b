;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm evaluator store)
  #:use-module (pyguixvm evaluator options)
  #:use-module (guix gexp)
  #:use-module (guix grafts)
  #:use-module (guix monads)
  #:use-module (guix packages)
  #:use-module (guix scripts build)
  #:use-module (guix status)
  #:use-module (guix store)
  #:use-module (guix ui)
  #:use-module (srfi srfi-1)
  #:export (call-with-guix
            grafts-wanted?
            open-guix-connection
            run-with-guix))

;;; Commentary:
;;;
;;; Connections to the store as 'guix system' has them, with its build options.
;;;
;;; Code:

(define (grafts-wanted?)
  "Is the user's software to be grafted?"
  (build-option 'graft?))

(define (run-with-guix store mvalue)
  "Run MVALUE, a monadic value, on STORE as 'guix system' does."
  (run-with-store store
    (mbegin %store-monad
      (set-guile-for-build (default-guile))
      mvalue)
    #:target (build-option 'target)
    #:system (build-option 'system)))

(define* (call-with-guix proc #:key keep-going?)
  "Call PROC with a new connection to the store that obeys the build options.  With
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
  "Return a new connection to the store that obeys the build options."
  (let ((store (open-connection)))
    (set-build-options-from-command-line store (build-options))
    store))
