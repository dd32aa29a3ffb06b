;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm evaluator dependencies)
  #:use-module (pyguixvm diagnostics)
  #:use-module (pyguixvm evaluator guix)
  #:use-module (pyguixvm evaluator user-files)
  #:use-module (ice-9 match)
  #:use-module (srfi srfi-1)
  #:export (observe-dependencies!
            dependencies))

;;; Commentary:
;;;
;;; The files that an evaluation depends on: those that it reads as Scheme, and
;;; those that become part of a system, also if they are missing.  Guile and Guix
;;; tell nobody; so some of their procedures are replaced, in the process of a single
;;; evaluation.
;;;
;;; Code:

(define %opened
  ;; Names of files that were opened, or looked for, as keys.
  (make-hash-table))

(define %promised
  ;; Promises of the names of 'local-file' objects.
  '())

(define (absolute file)
  "Return the name of FILE, relative to this process's directory or to the load path,
or #f."
  (cond ((string-prefix? "/" file) file)
        ((file-exists? file) (string-append (getcwd) "/" file))
        (else (%search-load-path file))))

(define (note-file! file)
  (let ((name (and (string? file) (absolute file))))
    (when (and name (user-file? name))
      (hash-set! %opened name #t))))

(define (note-promise! file promise)
  "Take note of the 'local-file' called FILE, of whose absolute name PROMISE is."
  ;; Guix would notice in its own code, when the file is wanted.
  (unless (string? file)
    (refuse #f (format #f "local-file: ~a is not a file name" (describe file))
            #:hint (and (not file) "A variable of the environment may not be set.")))
  (set! %promised (cons promise %promised)))

(define (note-module! name)
  "Take note of where the module in the file NAME, relative to the load path, was looked
for, if it is not there."
  (unless (%search-load-path name)
    (for-each (lambda (directory)
                (note-file! (string-append directory "/" name ".scm")))
              %load-path)))

(define (observe-dependencies!)
  "From now on, take note of what this process reads."
  (set! %load-hook note-file!)
  (replace! '(guile) 'open-file
            (lambda (open)
              (lambda* (file mode #:rest options)
                (when (string-prefix? "r" mode)
                  (note-file! file))
                (apply open file mode options))))
  (replace! '(guile) 'primitive-load-path
            (lambda (load)
              (lambda (name . options)
                (note-module! name)
                (apply load name options))))
  (observe-local-files! note-promise!))

(define (promised-file promise)
  "Return the file name that PROMISE is for, also if there is no such file, or #f."
  (catch #t
    (lambda ()
      (force promise))
    (lambda args
      (match args
        (('system-error _ _ (_ (? string? file) . _) . _) file)
        (_ #f)))))

(define (dependencies)
  "Return the absolute names of the files on which what was evaluated so far depends."
  (sort (delete-duplicates
         (append (hash-map->list (lambda (file _) file) %opened)
                 (filter (lambda (file)
                           (and (string? file) (user-file? file)))
                         (map promised-file %promised))))
        string<?))
