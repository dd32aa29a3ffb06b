;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm evaluator forms)
  #:use-module (pyguixvm diagnostics)
  #:use-module (pyguixvm evaluator clashes)
  #:use-module (pyguixvm evaluator guix)
  #:use-module (pyguixvm evaluator user-files)
  #:use-module (ice-9 match)
  #:use-module (ice-9 textual-ports)
  #:use-module (srfi srfi-1)
  #:use-module (srfi srfi-26)
  #:use-module (system base compile)
  #:use-module ((system vm loader) #:select (load-thunk-from-memory))
  #:export (call-with-boundary
            innermost-boundary
            load-forms
            loaded-file?
            loaded-form-location
            replace-load!
            unclosed-form))

;;; Commentary:
;;;
;;; Loading the user's files: the configuration, what it loads, and its modules.  Guile
;;; compiles a file as a whole and, when that fails, evaluates it anew without a word: what
;;; went wrong is lost, with its place, and a module that was loaded half-way meanwhile
;;; seems to be there.  Here each form is compiled and evaluated before the next one is read;
;;; so each failure happens once, and in which form is known.
;;;
;;; Code:


;;;
;;; Where we are.
;;;

(define %boundary
  ;; The tag of the innermost prompt within which the user's code was called.
  (make-parameter #f))

(define (innermost-boundary)
  "Return the tag of the prompt of the innermost 'call-with-boundary', or #f."
  (%boundary))

(define (call-with-boundary thunk)
  "Call THUNK; what lies beyond has no part in what it raises."
  (let ((tag (make-prompt-tag "boundary")))
    (parameterize ((%boundary tag))
      (call-with-prompt tag thunk (const #f)))))

(define %form
  ;; The place of the form that is being loaded, or was when something was raised, or #f.
  #f)

(define (loaded-form-location)
  "Return the <location> of the form that is being loaded, or that could not be, or #f."
  (place->location %form))

(define %loaded
  ;; Names of the files that were loaded so, as keys.
  (make-hash-table))

(define (loaded-file? file)
  "Is FILE, an absolute name, one that was loaded form by form?"
  (hash-ref %loaded file))


;;;
;;; Loading.
;;;

(define %loading
  ;; Canonical names of the files that are being loaded, the innermost first.
  (make-parameter '()))

(define (call-with-cycle-check file thunk)
  "Call THUNK, which loads FILE, unless it is being loaded."
  ;; Of an expression there is no file.
  (let ((name    (or (false-if-exception (canonicalize-path file)) file))
        (loading (%loading)))
    (when (member name loading)
      (refuse #f (format #f "'~a' loads itself: ~a" name
                         (string-join (reverse (cons name loading)) " -> "))
              #:hint "Have what both need in a third file, or in a module."))
    (parameterize ((%loading (cons name loading)))
      (thunk))))

(define (evaluate-form form)
  "Return the first value of FORM, syntax, in the current module."
  ;; Compiled, for better places; quickly.  Not to a value: that would keep the current
  ;; module, which is another one after 'define-module'.
  (define (evaluate)
    ;; Guile warns of a name that two modules export, but names our module by a number.
    (parameterize ((current-warning-port (%make-void-port "w")))
      (note-uses! form (current-module))
      ((load-thunk-from-memory
        (compile form #:from 'scheme #:to 'bytecode #:env (current-module)
                 #:optimization-level 1 #:warning-level 0)))))

  (call-with-values
      (lambda ()
        (call-with-boundary evaluate))
    (case-lambda
      (() *unspecified*)
      ((value . _) value))))

(define (defined-name form)
  "Return the name that FORM, syntax, defines and no other form does, or #f."
  (match (syntax->datum form)
    (((or 'define 'define* 'define-public)
      (or ((? symbol? name) . _) (? symbol? name)) . _)
     name)
    (_ #f)))

(define (evaluate-definition form name)
  "Evaluate FORM, which defines NAME.  If that is refused and the evaluation goes on, so is
what NAME stands for: the forms after it may have errors of their own."
  (let ((value (attempt (lambda () (evaluate-form form)) loaded-form-location)))
    (when (refused? value)
      (module-define! (current-module) name value))
    value))

(define (call-with-source-port file proc)
  "Call PROC with a port from which FILE can be read."
  (call-with-input-file file proc #:encoding "UTF-8" #:guess-encoding #t))

(define* (load-forms file #:key (call-with-port (cut call-with-source-port file <>))
                     (note (const #t)))
  "Load FILE, an absolute name, form by form, and return the value of the last one.  What
stands there is read from the port that CALL-WITH-PORT calls its argument with.  NOTE is
called with the <location> of each form and its value."
  (define evaluate
    ;; Of a module, or of a file that is loaded, all is needed.
    (if (null? (%loading))
        (lambda (form)
          (match (defined-name form)
            (#f   (evaluate-form form))
            (name (evaluate-definition form name))))
        evaluate-form))

  (define (load-from port outer)
    (let loop ((value *unspecified*))
      (let ((form (read-syntax port)))
        (if (eof-object? form)
            (begin
              (set! %form outer)
              value)
            (begin
              (set! %form (or (syntax-place form) outer))
              (let* ((place %form)
                     (value (evaluate form)))
                (note (place->location place) value)
                (loop value)))))))

  (when (null? (%loading))
    (set! %form #f))
  (hash-set! %loaded file #t)
  (call-with-cycle-check file
    (lambda ()
      (call-with-port
        (lambda (port)
          (set-port-filename! port file)          ;not relative to the load path
          (load-from port %form))))))


;;;
;;; What the user's files load.
;;;

(define (compiled? name file)
  "Is there a compiled module in the file NAME, relative to the load path, as new as FILE?"
  (let ((compiled (search-path %load-compiled-path name %load-compiled-extensions)))
    (and compiled
         (>= (stat:mtime (stat compiled)) (stat:mtime (stat file))))))

(define (load-user-modules load)
  "Return a procedure that loads as LOAD, which is 'primitive-load-path', but the user's
files form by form."
  (lambda (name . options)
    (let ((file (%search-load-path name)))
      (if (and file (user-file? file) (not (compiled? name file)))
          (load-forms (absolute-source-file file))
          (apply load name options)))))

(define (load-user-files load)
  "Return a procedure that loads as LOAD, which is 'load-in-vicinity', but the user's files
form by form, and says where it looked for one that is not there."
  (lambda (directory name . options)
    (let ((file (absolute-source-file (if (string-prefix? "/" name)
                                          name
                                          (string-append directory "/" name)))))
      (cond ((and (file-exists? file) (null? options) (user-file? file))
             (load-forms file))
            ((or (file-exists? file) (%search-load-path name))
             (apply load directory name options))
            (else
             ;; Who takes note of what is loaded has to know what was looked for.
             (when %load-hook
               (%load-hook file))
             (refuse #f (format #f "there is no file '~a' to load" file)))))))

(define replace-load!
  (let ((replaced? #f))
    (lambda ()
      "From now on, in this process, load the user's files form by form."
      (unless replaced?
        (set! replaced? #t)
        (replace! '(guile) 'load-in-vicinity load-user-files)
        (replace! '(guile) 'primitive-load-path load-user-modules)))))


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
