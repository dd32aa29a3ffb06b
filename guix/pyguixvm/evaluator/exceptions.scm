;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm evaluator exceptions)
  #:use-module (pyguixvm diagnostics)
  #:use-module (pyguixvm evaluator failure)
  #:use-module (pyguixvm evaluator forms)
  #:use-module (pyguixvm evaluator guix)
  #:use-module (pyguixvm notation)
  #:use-module (pyguixvm records fields)
  #:use-module (guix diagnostics)
  #:use-module (guix i18n)
  #:use-module ((guix store)
                #:select (store-connection-error?
                          store-connection-error-file
                          store-connection-error-code))
  #:use-module (guix ui)
  #:use-module (ice-9 match)
  #:use-module (ice-9 regex)
  #:use-module (srfi srfi-1)
  #:use-module (srfi srfi-35)
  #:export (arguments->failure))

;;; Commentary:
;;;
;;; Whatever is raised while a configuration is loaded and lowered, as a failure.  The
;;; messages, hints and places are those that 'guix system' prints.
;;;
;;; Code:

(define (first-words form)
  "Return FORM as text; merely its first word when it is long, such as a whole
operating-system."
  (let ((str (spell form)))
    (if (and (pair? form) (> (string-length str) 60))
        (object->string (car form))
        str)))

(define (plain-hint texinfo)
  ;; Guix's hints are Texinfo.
  (string-trim-both
   (false-if-exception* (lambda () (texi->plain-text texinfo)) texinfo)))

(define (false-if-exception* thunk default)
  (catch #t thunk (const default)))

(define (translated text)
  "Return TEXT, a prefix of Guix's diagnostics, in the user's language."
  (gettext text %gettext-domain))

(define (diagnostic-rx)
  "Return what matches the beginning of an error that Guix prints."
  (make-regexp (string-append "^(([^:\n]+):([0-9]+):([0-9]+): )?(guix [^:]*: )?"
                              (regexp-quote (translated "error: ")))
               regexp/extended regexp/newline))

(define (parse-diagnostic text kind)
  "Return the last error that TEXT, printed by Guix, reports as a failure of KIND,
or #f."
  (define (last-match)
    (fold-matches (diagnostic-rx) text #f (lambda (m previous) m)))

  (define (group m n)
    (string->number (match:substring m n)))

  (define %hint
    (string-append "\n" (translated "hint: ")))

  (and=> (last-match)
         (lambda (m)
           (let* ((body   (string-drop text (match:end m)))
                  (hint   (string-contains body %hint))
                  (end    (or hint (string-length body))))
             (make-failure kind
                           (string-trim-both (string-take body end))
                           (and hint
                                (string-trim-both
                                 (string-drop body
                                              (+ hint (string-length %hint)))))
                           (and (match:substring m 1)
                                (location (match:substring m 2)
                                          (group m 3) (group m 4))))))))

(define (guix-failure object)
  "Return the failure that Guix's own commands would report for OBJECT, a
condition, or #f if they know nothing of it."
  (parse-diagnostic
   (call-with-output-string
     (lambda (port)
       (catch #t
         (lambda ()
           (parameterize ((guix-warning-port port)
                          (current-error-port port))
             (call-with-error-handling
               (lambda () (raise-exception object)))))
         (const #f))))
   'guix))

(define (condition-failure object)
  "Return the failure for OBJECT, something raised that is no Guile error."
  (define (make message)
    (make-failure (if (invalid-declaration? object) 'validation 'guix)
                  (string-trim-right message)
                  (and (fix-hint? object)
                       (if (invalid-declaration? object)
                           (condition-fix-hint object)
                           (plain-hint (condition-fix-hint object))))
                  (and (error-location? object)
                       (error-location object))))

  (cond ((formatted-message? object)
         (make (apply format #f
                      (gettext (formatted-message-string object)
                               %gettext-domain)
                      (formatted-message-arguments object))))
        ((message-condition? object)
         (make (gettext (condition-message object) %gettext-domain)))
        ((store-connection-error? object)
         (make-failure 'unreachable
                       (format #f (G_ "failed to connect to `~a': ~a")
                               (store-connection-error-file object)
                               (strerror (store-connection-error-code object)))
                       #f #f))
        ((guix-failure object))
        (else
         (make-failure 'exception
                       (string-append "exception thrown: "
                                      (object->string object))
                       #f #f))))

(define (module-with variable)
  "Return the name of a module, ours rather than Guix's, that exports VARIABLE, or #f."
  (if (module-variable (resolve-interface '(pyguixvm)) variable)
      '(pyguixvm)
      (module-of-variable variable)))

(define (unbound-variable-hint variable)
  (let ((word (symbol->string variable)))
    (if (or (string->size word) (string->mac-address word))
        (format #f "A size or an address without quotes may stand directly in its field \
only; write ~s." word)
        (match (list (module-with variable) (declarations-with variable))
          ((#f ()) "Did you forget a 'use-modules' form?")
          ((#f (declaration . _))
           (format #f "'~a' is a field of ~a: is a parenthesis in the wrong place?"
                   variable declaration))
          ((name _) (format #f "Did you forget (use-modules ~a)?" name))))))

(define (unbound-variable-failure variable)
  (make-failure 'unbound-variable
                (format #f "~a: unbound variable" (spell variable))
                (unbound-variable-hint variable)
                #f))

(define (application-failure object)
  "Return the failure for a call of OBJECT, which is no procedure."
  (make-failure 'exception
                (format #f "~a is called, but is no procedure" (describe object))
                (and (or (string? object) (number? object))
                     (format #f "A list of values is written '(~a …) or (list ~a …)."
                             (describe object) (describe object)))
                #f))

(define (unclosed-hint location)
  (let ((line (false-if-exception (unclosed-form (location-file location)))))
    (and line
         (format #f "The form that begins at ~a:~a:0 does not seem to be closed."
                 (location-file location) line))))

(define (read-failure message)
  "Return the failure for MESSAGE of Guile's reader, which starts with a place."
  (let* ((m        (string-match "^(.*):([0-9]+):([0-9]+): (.*)$" message))
         (text     (if m (match:substring m 4) message))
         (location (and m
                        (location (match:substring m 1)
                                  (string->number (match:substring m 2))
                                  (string->number (match:substring m 3))))))
    (if (or (string-suffix? "end of file" text)
            (string-suffix? "searching for: )" text))
        (make-failure 'syntax "missing closing parenthesis"
                      (unclosed-hint location) location)
        (make-failure 'syntax text #f location))))

(define (exception-text key args)
  "Return what Guile prints for an exception KEY with ARGS."
  (string-trim-both
   (call-with-output-string
     (lambda (port)
       (print-exception port #f key args)))))

(define (quit-failure diagnostics)
  "Return the failure for a call of 'exit', by Guix after it printed DIAGNOSTICS, or
by the configuration itself."
  (or (parse-diagnostic diagnostics 'guix)
      (make-failure 'exception "the configuration called 'exit'" #f #f)))

(define (arguments->failure args diagnostics)
  "Return the failure for ARGS, what a 'catch' handler gets."
  (match args
    (('read-error _ (? string? message) arguments _ ...)
     (read-failure (apply format #f message arguments)))
    (('syntax-error _ message properties form subform _ ...)
     (make-failure 'syntax
                   (format #f "~a: ~a" (first-words (or subform form)) message)
                   #f
                   (source-properties->location properties)))
    (('unbound-variable _ _ ((? symbol? variable)) _ ...)
     (unbound-variable-failure variable))
    (('wrong-type-arg _ "Wrong type to apply: ~S" (object) _ ...)
     (application-failure object))
    (('quit _ ...)
     (quit-failure diagnostics))
    (((or 'srfi-34 '%exception) object)
     (condition-failure object))
    (('out-of-memory _ ...)
     (make-failure 'exception "the evaluation ran out of memory" #f #f))
    (('stack-overflow _ ...)
     (make-failure 'exception "stack overflow"
                   "Does a procedure call itself without end?" #f))
    (('misc-error _ "no code for module ~S" (name) _ ...)
     (make-failure 'exception
                   (format #f "no code for module ~s" name)
                   "Option -L DIRECTORY adds to the directories that are searched."
                   #f))
    ((key arguments ...)
     (make-failure 'exception (exception-text key arguments) #f #f))))
