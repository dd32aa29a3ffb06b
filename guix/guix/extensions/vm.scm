;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (guix extensions vm)
  #:use-module (guix diagnostics)
  #:use-module (guix i18n)
  #:use-module (guix scripts)
  #:use-module (guix ui)
  #:use-module (ice-9 match)
  #:use-module (srfi srfi-1)
  #:export (guix-vm))

;;; Commentary:
;;;
;;; 'guix vm' is pyguixvm with the very Guix that runs it, such as that of 'guix
;;; time-machine', rather than the one in PATH.  Guix finds this file by
;;; GUIX_EXTENSIONS_PATH, which a profile sets.
;;;
;;; Code:

(define %program
  ;; As a command of a shell sees it; Guix has no other way to tell.
  (car (program-arguments)))

(define %beside
  ;; Where pyguixvm is in the profile in which this file is share/guix/extensions/vm.scm;
  ;; #f where the file was not loaded by name.
  (and=> (current-filename)
         (lambda (file)
           (string-append (fold (lambda (_ name) (dirname name)) file (iota 4))
                          "/bin/pyguixvm"))))

(define (find-pyguixvm)
  "Return the file name of pyguixvm, or #f."
  (if (and %beside (access? %beside X_OK))
      %beside
      (search-path (parse-path (or (getenv "PATH") "")) "pyguixvm")))

(define (absolute file)
  "Return FILE with an absolute name, its symbolic links as they are: by them Guix finds
the profile that it lives in."
  (if (string-prefix? "/" file)
      file
      (string-append (getcwd) "/" file)))

(define-command (guix-vm . args)
  (category main)
  (synopsis "declare virtual machines and run them on libvirt")

  ;; A name without a slash was looked up in PATH, where pyguixvm finds it as well.
  (when (string-index %program #\/)
    (setenv "PYGUIXVM_GUIX" (absolute %program)))
  (match (find-pyguixvm)
    (#f
     (report-error (G_ "~a: command not found~%") "pyguixvm")
     (display-hint (G_ "Install it, or add it to PATH."))
     (exit 1))
    (program
     (apply execl program "pyguixvm" args))))
