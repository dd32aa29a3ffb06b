;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm evaluator user-files)
  #:use-module (ice-9 match)
  #:use-module (srfi srfi-1)
  #:export (user-file?))

;;; Commentary:
;;;
;;; Which files are the user's, rather than of the system, of Guix, or ours.
;;;
;;; Code:

(define %others
  ;; Directories, with a final slash, of what comes with a system or with Guix.
  '("/gnu/store/" "/proc/" "/dev/" "/sys/" "/run/" "/usr/" "/var/guix/"))

(define (program-directory? directory)
  "Does DIRECTORY, of the load path, hold Guile's modules, Guix's or ours?"
  (any (lambda (file)
         (file-exists? (string-append directory "/" file)))
       '("ice-9/boot-9.scm" "guix/gexp.scm" "pyguixvm/evaluator/evaluation.scm")))

(define program-directories
  (let ((known '()))                              ;(DIRECTORY . ANSWER) pairs
    (lambda ()
      "Return the directories of programs on the load path, with a final slash."
      (set! known
            (map (lambda (directory)
                   (or (assoc directory known)
                       (cons directory (program-directory? directory))))
                 %load-path))
      (filter-map (match-lambda
                    ((directory . program?)
                     (and program? (string-append directory "/"))))
                  known))))

(define (user-file? file)
  "Is FILE, an absolute name, the user's?"
  (not (any (lambda (prefix)
              (string-prefix? prefix file))
            (cons (string-append %compile-fallback-path "/")
                  (append %others (program-directories))))))
