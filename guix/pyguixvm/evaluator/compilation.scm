;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm evaluator compilation)
  #:use-module (guix build utils)
  #:use-module (ice-9 ftw)
  #:use-module (srfi srfi-1)
  #:use-module (srfi srfi-26)
  #:use-module (system base compile)
  #:export (compiled-directory
            compile-modules
            compile-to
            compiled?))

;;; Commentary:
;;;
;;; Our modules in compiled form, which saves a starting evaluator half a second.
;;;
;;; The guix command does not compile what it loads, and what is compiled for one
;;; Guix is wrong for another: the layout of its records becomes part of our code.
;;; Hence a directory of our own in the user's cache for each combination.
;;;
;;; This module is loaded first, from source, so it is small.
;;;
;;; Code:

(define (cache-directory)
  (string-append (or (getenv "XDG_CACHE_HOME")
                     (string-append (or (getenv "HOME") "/nonexistent")
                                    "/.cache"))
                 "/pyguixvm/compiled"))

(define (file-identity file)
  "Return what tells FILE from another version of it."
  (let ((status (stat file)))
    (list file (stat:mtime status) (stat:size status))))

(define (source-files directory)
  "Return the names of our modules' files, relative to DIRECTORY."
  (cons "pyguixvm.scm"
        (map (cut string-drop <> (+ 1 (string-length directory)))
             (find-files (string-append directory "/pyguixvm") "\\.scm$"))))

(define (guix-identity)
  "Return what tells this Guix from another one."
  (map (lambda (file)
         (and=> (search-path %load-path file)
                (compose file-identity canonicalize-path)))
       '("guix/records.scm" "guix/store.scm" "gnu/system.scm" "gnu/image.scm")))

(define (compiled-directory directory)
  "Return the name of the directory for the modules in DIRECTORY, compiled for this
Guile and Guix."
  (let ((identity (list (version) (guix-identity)
                        (map (lambda (file)
                               (file-identity (string-append directory "/" file)))
                             (source-files directory)))))
    (string-append (cache-directory) "/"
                   (number->string (hash (object->string identity)
                                         most-positive-fixnum)
                                   16))))

(define (compiled-file target file)
  (string-append target "/" (string-drop-right file 4) ".go"))

(define (compiled? directory target)
  "Are the modules in DIRECTORY there in TARGET, compiled?"
  (every (lambda (file)
           (file-exists? (compiled-file target file)))
         (source-files directory)))

(define %generations 5)

(define (remove-old-directories)
  "Keep the latest compiled directories only."
  (let* ((cache (cache-directory))
         (names (map (cut string-append cache "/" <>)
                     (scandir cache (negate (cut string-prefix? "." <>)))))
         (newer? (lambda (one other)
                   (> (stat:mtime (stat one)) (stat:mtime (stat other)))))
         (old   (drop (sort names newer?) (min %generations (length names)))))
    (for-each delete-file-recursively old)))

(define (compile-to directory target)
  "Compile the modules in DIRECTORY, which are found on the load path, to TARGET."
  ;; Below /proc, 'compile-file' would try for ever to make it.
  (mkdir-p target)
  (for-each (lambda (file)
              ;; Each file appears as a whole or not at all.
              (compile-file (string-append directory "/" file)
                            #:output-file (compiled-file target file)
                            #:optimization-level 1
                            #:warning-level 0))
            (source-files directory)))

(define (compile-modules directory target)
  "Compile the modules in DIRECTORY, which are loaded, to TARGET, in the user's cache."
  (compile-to directory target)
  (remove-old-directories))
