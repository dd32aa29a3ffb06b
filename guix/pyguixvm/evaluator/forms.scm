;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm evaluator forms)
  #:use-module (pyguixvm diagnostics)
  #:use-module (pyguixvm machine)
  #:use-module (gnu system)
  #:use-module (ice-9 match)
  #:export (make-form-reader
            note-value
            values-before))

;;; Commentary:
;;;
;;; What becomes of the expressions of a configuration that are not its last one.  'load'
;;; drops their values, so each is read as one that tells its value first; all else about
;;; its evaluation stays.
;;;
;;; Code:

(define %values
  ;; (PLACE . VALUE) for each expression, the last one first, of the file that is loaded.
  '())

(define (note-value place value)
  "Return VALUE, of the expression at PLACE of the configuration."
  (set! %values (acons place value %values))
  value)

(define (macro-of-values? symbol)
  "Is SYMBOL one of the macros whose uses are expressions?"
  (memq symbol '(virtual-machine deployment operating-system
                 let let* letrec if cond case when unless and or)))

(define (call? form module)
  "Is FORM, syntax, in MODULE certainly an expression rather than a definition?"
  (syntax-case form ()
    ((head . _)
     (identifier? #'head)
     (let* ((symbol   (syntax->datum #'head))
            (variable (module-variable module symbol)))
       (or (macro-of-values? symbol)
           (not variable)
           (not (variable-bound? variable))
           (not (macro? (variable-ref variable))))))
    (_ #f)))

(define (make-form-reader)
  "Return a reader for 'load' of one file, after which 'values-before' knows about it."
  (define first-port #f)

  (set! %values '())
  (lambda (port)
    (unless first-port
      (set! first-port port))
    (let ((form (read-syntax port)))
      (if (and (eq? port first-port)            ;not a module that it imports
               (not (eof-object? form))
               (call? form (current-module)))
          #`((@@ (pyguixvm evaluator forms) note-value)
             '#,(datum->syntax #f (syntax-place form))
             #,form)
          form))))

(define (values-before location)
  "Return (LOCATION . VALUE) for the expressions before the one at LOCATION."
  (let loop ((noted %values)
             (result '()))
    (match noted
      (() result)
      (((place . value) rest ...)
       (let ((at (place->location place)))
         (loop rest
               (if (equal? at location)
                   result
                   (acons at value result))))))))
