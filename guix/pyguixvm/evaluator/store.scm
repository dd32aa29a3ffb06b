;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm evaluator store)
  #:use-module (pyguixvm evaluator options)
  #:use-module (guix derivations)
  #:use-module (guix gexp)
  #:use-module (guix grafts)
  #:use-module (guix monads)
  #:use-module (guix packages)
  #:use-module (guix scripts build)
  #:use-module (guix status)
  #:use-module (guix store)
  #:use-module (guix ui)
  #:use-module (ice-9 control)
  #:use-module (ice-9 match)
  #:use-module (srfi srfi-1)
  #:use-module (srfi srfi-26)
  #:export (%note-build
            call-with-guix
            call-without-building
            failed-build-log
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

(define %failed
  ;; The derivation that was the first whose build failed, a file name, or #f.  Of several,
  ;; the others depend on it.
  #f)

(define (failed-build-log)
  "Return the file name of the log of the first build that failed in this process, or #f."
  (and=> %failed derivation-log-file))

(define (note-and-print event . rest)
  "Print EVENT, of a build, as Guix does unless it is to be verbose; note failures."
  (match event
    (('build-failed (? derivation-path? drv) _ ...)
     (unless %failed
       (set! %failed drv)))
    (_ #t))
  (apply print-build-event/quiet event rest))

(define %note-build
  ;; Called before the daemon is asked for what it has to build or fetch, which may take
  ;; any time.
  (make-parameter (const #t)))

(define (missing? store thing)
  "Is THING, as the daemon is asked to build it, not there yet?"
  (match thing
    ((or ((? derivation-path? drv) . _) (? derivation-path? drv))
     (or (not (file-exists? drv))
         (any (match-lambda
                ((_ . output)
                 (not (valid-path? store (derivation-output-path output)))))
              (derivation-outputs (read-derivation-from-file drv)))))
    (item
     (not (valid-path? store item)))))

(define (noting-builds handler)
  "Return a build handler that does as HANDLER, and calls the procedure in %NOTE-BUILD
before."
  (lambda (continue store things mode)
    (when (any (cut missing? store <>) things)
      ((%note-build)))
    (handler continue store things mode)))

(define (call-without-building thunk)
  "Return what THUNK returns, or #f as soon as it would have the daemon build something."
  (let/ec escape
    (with-build-handler (lambda _ (escape #f))
      (parameterize ((%graft? (%graft?)))         ;which 'set-grafting' may have changed
        (thunk)))))

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
      (with-status-report note-and-print
        (with-store store
          (set-build-options-from-command-line store options)
          (with-build-handler (noting-builds
                               (build-notifier #:use-substitutes? substitutes?
                                               #:verbosity verbosity))
            (proc store)))))))

(define (open-guix-connection)
  "Return a new connection to the store that obeys the build options."
  (let ((store (open-connection)))
    (set-build-options-from-command-line store (build-options))
    store))
