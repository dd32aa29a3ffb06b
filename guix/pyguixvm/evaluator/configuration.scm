;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm evaluator configuration)
  #:use-module (pyguixvm diagnostics)
  #:use-module (ice-9 binary-ports)
  #:use-module (ice-9 iconv)
  #:use-module (ice-9 match)
  #:use-module (ice-9 textual-ports)
  #:use-module (rnrs bytevectors)
  #:use-module (srfi srfi-9)
  #:export (configuration-file
            configuration-expression
            configuration-name
            find-configuration
            configuration-place
            call-with-configuration-port))

;;; Commentary:
;;;
;;; Where a configuration stands: in a file, or on the command line, as the expression that
;;; Guix's commands take with "-e".
;;;
;;; Code:

(define-record-type <configuration>
  (make-configuration file expression)
  configuration?
  (file       configuration-file)                 ;absolute file name
  (expression configuration-expression))          ;string | #f

(define (expression-file)
  "Return what stands for a file name in the places of an expression.  What that loads is
relative to the directory it is evaluated in."
  (string-append (getcwd) "/-e"))

(define (configuration-name configuration)
  "Return what CONFIGURATION is called: as on the command line, with an absolute file name."
  (match (configuration-expression configuration)
    (#f         (configuration-file configuration))
    (expression (string-append "-e " expression))))

(define (check-text-file file)
  "Refuse FILE unless it is a text in UTF-8, or in the encoding that it declares."
  (define (first-bad-line)
    ;; Lines are read one by one: a newline is no part of another character.
    (let loop ((lines (string-split (call-with-input-file file get-string-all
                                      #:encoding "ISO-8859-1")
                                    #\newline))
               (number 0))
      (match lines
        (() 0)
        ((line . rest)
         (if (decodes? (string->bytevector line "ISO-8859-1"))
             (loop rest (+ 1 number))
             number)))))

  (define (decodes? bytes)
    (false-if-exception (bytevector->string bytes "UTF-8" 'error)))

  (when (eq? 'directory (stat:type (stat file)))
    (refuse #f (format #f "'~a' is a directory" file)
            #:hint "Name the file in it that declares machines."))
  (let ((bytes (call-with-input-file file get-bytevector-all #:binary #t)))
    (unless (eof-object? bytes)
      (when (memv 0 (bytevector->u8-list bytes))
        (refuse #f (format #f "'~a' is no text: it has null bytes" file)))
      (unless (or (decodes? bytes)
                  (call-with-input-file file file-encoding))
        (refuse (source-location file (first-bad-line) 0)
                "this line is not encoded in UTF-8"
                #:hint "Convert the file, as by 'iconv -f ISO-8859-1 -t UTF-8'.")))))

(define (find-file name)
  "Return the canonical name of the file NAME, a text, as it appears in locations."
  (catch 'system-error
    (lambda ()
      (let ((file (canonicalize-path name)))
        (check-text-file file)
        file))
    (lambda args
      (refuse #f (format #f "cannot read '~a': ~a" name
                         (strerror (system-error-errno args)))))))

(define (find-configuration asked)
  "Return the configuration that is ASKED for: by the name of a file, or as the JSON object
of an expression."
  (match asked
    ((? string? name)
     (make-configuration (find-file name) #f))
    ((("expression" . (? string? expression)))
     (make-configuration (expression-file) expression))
    (_
     (refuse #f "malformed request"))))

(define (configuration-place asked)
  "Return the file name in the directory of the configuration that is ASKED for, as by
'find-configuration'.  There need be no such file: a system that 'guix deploy' evaluated may
be known by a name alone."
  (match asked
    ((? string? name)
     name)
    ((("expression" . (? string? _)))
     (expression-file))
    (_
     (refuse #f "malformed request"))))

(define (call-with-configuration-port configuration proc)
  "Call PROC with a port from which CONFIGURATION can be read."
  (match (configuration-expression configuration)
    (#f
     (call-with-input-file (configuration-file configuration) proc
       #:encoding "UTF-8" #:guess-encoding #t))
    (expression
     (call-with-input-string expression proc))))
