;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm evaluator forms)
  #:use-module (pyguixvm diagnostics)
  #:use-module (pyguixvm evaluator guix)
  #:use-module (ice-9 match)
  #:use-module (ice-9 textual-ports)
  #:export (call-with-one-load
            expanded-form-location
            make-form-reader
            note-value
            unclosed-form
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

(define %expanded
  ;; The place of the form that is being expanded, or #f.
  #f)

(define (expanded-form-location)
  "Return the <location> of the form of the configuration that is being expanded, or #f."
  (place->location %expanded))

(define (note-value place value)
  "Return VALUE, of the expression at PLACE of the configuration."
  (set! %values (acons place value %values))
  value)

(define (macro-of-values? symbol)
  "Is SYMBOL one of the macros whose uses are expressions?"
  (memq symbol '(virtual-machine deployment operating-system load
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
      (when (eq? port first-port)
        (set! %expanded (and (not (eof-object? form)) (syntax-place form))))
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


;;;
;;; Files that load one another.
;;;

(define %loading
  ;; Canonical names of the files that are being loaded, the innermost first.
  (make-parameter '()))

(define (refuse-cycle load)
  "Return a procedure that loads as LOAD, which is 'load-in-vicinity', but no file within
itself."
  (lambda (directory file . options)
    (let* ((name    (if (string-prefix? "/" file)
                        file
                        (string-append directory "/" file)))
           (name    (or (false-if-exception (canonicalize-path name)) name))
           (loading (%loading)))
      (when (member name loading)
        (refuse #f (format #f "'~a' loads itself: ~a" name
                           (string-join (reverse (cons name loading)) " -> "))
                #:hint "Have what both need in a third file, or in a module."))
      (parameterize ((%loading (cons name loading)))
        (apply load directory file options)))))

(define call-with-one-load
  (let ((replaced? #f))
    (lambda (thunk)
      "Call THUNK, in which no file loads itself."
      (unless replaced?
        (set! replaced? #t)
        (replace! '(guile) 'load-in-vicinity refuse-cycle))
      (thunk))))


;;;
;;; Parentheses.
;;;

(define (complete? text)
  "Can TEXT be read to its end?"
  (catch 'read-error
    (lambda ()
      (call-with-input-string text
        (lambda (port)
          (let loop ()
            (or (eof-object? (read port))
                (loop))))))
    (const #f)))

(define (unclosed-form file)
  "Return the number of the line, from 1, on which the form of FILE begins that seems not to
be closed: one at the start of a line, which cannot be read up to the next one; or #f."
  (define (starts-form? line)
    (string-prefix? "(" line))

  (let loop ((lines (string-split (call-with-input-file file get-string-all) #\newline))
             (number 1)
             (start #f)
             (form '()))
    (match lines
      (()
       (and start
            (not (complete? (string-join (reverse form) "\n")))
            start))
      ((line . rest)
       (cond ((not (starts-form? line))
              (loop rest (+ 1 number) start (cons line form)))
             ((and start (not (complete? (string-join (reverse form) "\n"))))
              start)
             (else
              (loop rest (+ 1 number) number (list line))))))))
