;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm evaluator handling)
  #:use-module (pyguixvm diagnostics)
  #:use-module (pyguixvm evaluator clashes)
  #:use-module (pyguixvm evaluator exceptions)
  #:use-module (pyguixvm evaluator failure)
  #:use-module (pyguixvm evaluator forms)
  #:use-module (pyguixvm evaluator user-files)
  #:use-module (guix diagnostics)
  #:use-module (ice-9 match)
  #:use-module (srfi srfi-1)
  #:use-module (system vm frame)
  #:use-module (system vm program)
  #:export (call-with-failure-handling))

;;; Commentary:
;;;
;;; What is raised while something is called becomes a failure, with the place in the
;;; configuration where it happened.
;;;
;;; Code:


;;;
;;; Where it happened.
;;;

(define (frame-location frame)
  (and=> (and frame (frame-source frame))
         (lambda (source)
           (and (source:file source) (source:line source)
                (source-location (source:file source)
                                 (source:line source)
                                 (source:column source))))))

(define (stack-locations stack)
  "Return the <location>s of the frames of STACK, the innermost first."
  (if stack
      (let loop ((frame (and (positive? (stack-length stack))
                             (stack-ref stack 0)))
                 (locations '()))
        (if frame
            (loop (frame-previous frame)
                  (match (frame-location frame)
                    (#f locations)
                    (location (cons location locations))))
            (reverse locations)))
      '()))

(define (users? location)
  "Is LOCATION in a file of the user's?"
  (loaded-file? (location-file location)))

(define (users-procedure? object)
  "Is OBJECT a procedure that was compiled from a file of the user's?"
  (and (program? object)
       (any (lambda (source)
              (and=> (source:file source) loaded-file?))
            (program-sources object))))

(define (user-location locations args)
  "Return the first of LOCATIONS, where ARGS were raised, that lies in a file of the user's,
or #f: an error that Guix notices in the middle of its own code was still made there."
  (match (cons (filter users? locations) args)
    ;; Noticed by the procedure that was called.
    (((_ call . _) 'wrong-number-of-args _ _ ((? users-procedure?)) . _) call)
    (((location . _) . _) location)
    (_ #f)))

(define (locate failure location)
  "Return FAILURE with LOCATION, or what LOCATION returns, unless it has one: one of the
user's, if there is any."
  (define given
    (failure-location failure))

  (let ((location (if (and given (user-file? (location-file given)))
                      given
                      (or (if (procedure? location) (location) location)
                          given))))
    (explain-clash
     (make-failure (failure-kind failure) (failure-message failure)
                   (failure-hint failure) location))))


;;;
;;; Handling.
;;;

(define (call-with-diagnostics proc)
  "Call PROC with a thunk that returns the diagnostics which Guix printed since.
They are printed nonetheless."
  (let ((text    '())
        (printed (guix-warning-port)))
    (define (write-string str)
      (set! text (cons str text))
      (display str printed))

    (parameterize ((guix-warning-port
                    (make-soft-port (vector (compose write-string string)
                                            write-string
                                            (lambda () (force-output printed))
                                            #f #f)
                                    "w")))
      (proc (lambda ()
              (force-output (guix-warning-port))
              (string-concatenate-reverse text))))))

(define* (call-with-failure-handling thunk #:key location)
  "Call THUNK and return its value, or a <failure> if it raises an exception.  When nothing
else tells where the error is, it is at the innermost call in a file of the user's, else
at LOCATION, which may be a procedure that returns it."
  (call-with-diagnostics
   (lambda (diagnostics)
     (let ((locations '()))
       (catch #t
         (lambda ()
           (call-with-boundary thunk))
         (lambda args
           (locate (arguments->failure args (diagnostics))
                   (or (user-location locations args) location)))
         (lambda _
           (set! locations (stack-locations (make-stack #t 0 (innermost-boundary))))))))))
