;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm evaluator store)
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
  #:use-module (srfi srfi-1)
  #:export (call-with-guix
            grafts-wanted?
            open-guix-connection
            run-with-guix))

;;; Commentary:
;;;
;;; Connections to the store as 'guix system' has them, with the build options in
;;; GUIX_BUILD_OPTIONS.
;;;
;;; Code:

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
