;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm evaluator options)
  #:use-module ((gnu packages) #:select (%patch-path))
  #:use-module (guix grafts)
  #:use-module (guix scripts)
  #:use-module (guix scripts build)
  #:use-module (guix utils)
  #:use-module (ice-9 match)
  #:use-module (srfi srfi-1)
  #:use-module (srfi srfi-37)
  #:export (adopt-load-path
            build-option
            build-options
            call-with-build-options))

;;; Commentary:
;;;
;;; The build options of 'guix system': those of the command line, and before them those in
;;; GUIX_BUILD_OPTIONS.  To parse them has effects: "-L" changes the load path and where
;;; packages are looked for.
;;;
;;; Code:

;;;
;;; The load path of the client's environment.
;;;

(define (own-directory? directory)
  "Does Guile look in DIRECTORY whatever the environment says?"
  (member directory
          (list (%library-dir) (%site-dir) (%global-site-dir) (%package-data-dir))))

(define (added variable path)
  "Return the directories that VARIABLE of the environment names beyond PATH."
  (lset-difference string=?
                   (remove string-null? (parse-path (or (getenv variable) "")))
                   path))

(define (own-directories path)
  "Return how many directories of PATH come before those that the environment adds."
  (define (up-to file)
    "Return how many come up to the first one that has FILE."
    (match (list-index (lambda (directory)
                         (file-exists? (string-append directory "/" file)))
                       path)
      (#f    0)
      (index (+ 1 index))))

  ;; Guix as Debian has it is in one of Guile's own directories, which it puts first.
  (max (or (list-index own-directory? path) (length path))
       (up-to "guix/ui.scm")
       (up-to "pyguixvm.scm")))

(define (adopt-load-path)
  "Look for modules and patches also where GUILE_LOAD_PATH says, as Guix does where it is set
from the start: after Guix's own and those of channels.  Return the directories that this
adds."
  (let* ((directories (added "GUILE_LOAD_PATH" %load-path))
         (compiled    (added "GUILE_LOAD_COMPILED_PATH" %load-compiled-path))
         (own         (own-directories %load-path)))
    (define (with-directories path)
      (call-with-values
          (lambda ()
            (split-at path (min own (length path))))
        (lambda (before after)
          (append before directories after))))

    ;; That of patches is made of the other one, when its module is loaded.
    (%patch-path (with-directories (%patch-path)))
    (set! %load-path (with-directories %load-path))
    (set! %load-compiled-path
          (append %load-compiled-path
                  (remove (lambda (directory)
                            ;; Ours, as they were compiled for another Guix.
                            (file-exists? (string-append directory "/pyguixvm.go")))
                          compiled)))
    directories))


;;;
;;; Build options.
;;;

(define %options
  (append %standard-build-options
          %standard-cross-build-options
          %standard-native-build-options))

(define (default-options)
  ;; As 'guix system' has them.
  `((system . ,(%current-system))
    (target . #f)
    (substitutes? . #t)
    (offload? . #t)
    (print-build-trace? . #t)
    (print-extended-build-trace? . #t)
    (multiplexed-build-output? . #t)
    (graft? . #t)
    (debug . 0)
    (verbosity . 1)))

(define (names-load-path? option)
  (member "load-path" (option-names option)))

(define (parse arguments load-path)
  "Return the options that ARGUMENTS and GUIX_BUILD_OPTIONS spell, an alist; LOAD-PATH is
what the processor of \"-L\" is made of: it gets that of Guix."
  (parse-command-line arguments
                      (map (lambda (given)
                             (if (names-load-path? given)
                                 (option (option-names given) #t #f
                                         (load-path (option-processor given)))
                                 given))
                           %options)
                      (list (default-options))))

(define (usual-build-options)
  "Return the build options that GUIX_BUILD_OPTIONS asks for, whatever the load path of
whoever asks: this process stays as it is."
  (parse '() (const (lambda (option name argument result . rest)
                      (apply values result rest)))))

(define %build-options
  ;; Those of the request that is being answered; #f: of none.
  (make-parameter #f))

(define (build-options)
  "Return the build options of the request that is being answered, an alist."
  (or (%build-options) (usual-build-options)))

(define (build-option key)
  "Return the value of the build option KEY, see 'build-options'."
  (assoc-ref (build-options) key))

(define (call-with-build-options arguments proc)
  "Have this process follow ARGUMENTS and GUIX_BUILD_OPTIONS, and call PROC with the
directories that they add to the load path."
  (define directories '())

  (define (noting process)
    (lambda (option name argument . rest)
      (set! directories (cons argument directories))
      (apply process option name argument rest)))

  (let ((options (parse arguments noting)))
    (parameterize ((%build-options options)
                   (%graft? (assoc-ref options 'graft?)))
      (proc directories))))
