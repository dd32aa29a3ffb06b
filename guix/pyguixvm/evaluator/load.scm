;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm evaluator load)
  #:use-module ((pyguixvm) #:select ())           ;loaded before any configuration
  #:use-module (pyguixvm diagnostics)
  #:use-module (pyguixvm lint)
  #:use-module (guix diagnostics)
  #:use-module (guix ui)
  #:use-module (ice-9 match)
  #:export (configuration-file-name
            load-configuration
            make-configuration-module))

;;; Commentary:
;;;
;;; Load a configuration as 'guix system' does, see 'load*' in (guix ui); but where
;;; that prints an error and exits, exceptions are left to the caller.
;;;
;;; Code:

(define %modules
  ;; What 'guix system' imports, and our interface.
  '((gnu system) (gnu services) (gnu system shadow) (pyguixvm)))

(define (make-configuration-module)
  "Return a new module in which a configuration can be evaluated."
  (make-user-module %modules))

(define (configuration-file-name file)
  "Return the canonical name of FILE, as it appears in locations."
  (catch 'system-error
    (lambda ()
      (canonicalize-path file))
    (lambda args
      (refuse #f (format #f "cannot read '~a': ~a" file
                         (strerror (system-error-errno args)))))))

(define (load-file file)
  "Return the value of the last expression of FILE."
  ;; Have Guile compile FILE, for better locations, and anew, in case a macro that
  ;; it uses has changed.
  (set! %fresh-auto-compile #t)
  (set! %load-should-auto-compile #t)

  (save-module-excursion
   (lambda ()
     (set-current-module (make-configuration-module))
     ;; Hide the "auto-compiling" messages.  Compile quickly.
     (parameterize ((current-warning-port (%make-void-port "w"))
                    ((@ (system base compile) default-optimization-level) 1))
       (load-in-vicinity (dirname file) file)))))

(define (last-expression-location file)
  "Return the <location> of the last expression of FILE, or #f when it has none."
  (call-with-input-file file
    (lambda (port)
      (let loop ((last #f))
        (match (read-syntax port)
          ((? eof-object?)
           (and=> (and last (syntax-place last))
                  (lambda (place)
                    (apply source-location place))))
          (expression
           (loop expression)))))))

(define (load-configuration file)
  "Return the validated <deployment> that FILE, a canonical file name, declares."
  (let ((object   (load-file file))
        (location (last-expression-location file)))
    (unless location
      (refuse (source-location file 0 0) "the file is empty"))
    (validate-deployment (object->deployment object location))))
