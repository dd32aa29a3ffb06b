;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm evaluator dependencies)
  #:use-module (pyguixvm evaluator guix)
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

(define %own
  ;; Directories, with a final slash, of what comes with a system, with Guix or with us.
  '("/gnu/store/" "/proc/" "/dev/" "/sys/" "/etc/" "/run/" "/usr/" "/var/guix/"))

(define (program-directory? directory)
  "Does DIRECTORY, of the load path, hold Guile's modules, Guix's or ours?"
  (any (lambda (file)
         (file-exists? (string-append directory "/" file)))
       '("ice-9/boot-9.scm" "guix/gexp.scm" "pyguixvm/evaluator/evaluation.scm")))

(define (absolute file)
  "Return the name of FILE, relative to this process's directory or to the load path,
or #f."
  (cond ((string-prefix? "/" file) file)
        ((file-exists? file) (string-append (getcwd) "/" file))
        (else (%search-load-path file))))

(define (of-the-user? file)
  (not (any (lambda (prefix)
              (string-prefix? prefix file))
            %own)))

(define (note-file! file)
  (let ((name (and (string? file) (absolute file))))
    (when (and name (of-the-user? name))
      (hash-set! %opened name #t))))

(define (note-module! name)
  "Take note of where the module in the file NAME, relative to the load path, was looked
for, if it is not there."
  (unless (%search-load-path name)
    (for-each (lambda (directory)
                (note-file! (string-append directory "/" name ".scm")))
              %load-path)))

(define (observe-dependencies!)
  "From now on, take note of what this process reads."
  (set! %own
        (append (map (lambda (directory)
                       (string-append directory "/"))
                     (cons %compile-fallback-path
                           (filter program-directory? %load-path)))
                %own))
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
  (observe-local-files! (lambda (promise)
                          (set! %promised (cons promise %promised)))))

(define (promised-file promise)
  "Return the file name that PROMISE is for, also if there is no such file, or #f."
  (catch 'system-error
    (lambda ()
      (force promise))
    (lambda args
      (match args
        ((_ _ _ (_ (? string? file) . _) . _) file)
        (_ #f)))))

(define (dependencies)
  "Return the absolute names of the files on which what was evaluated so far depends."
  (sort (delete-duplicates
         (append (hash-map->list (lambda (file _) file) %opened)
                 (filter (lambda (file)
                           (and (string? file) (of-the-user? file)))
                         (map promised-file %promised))))
        string<?))
