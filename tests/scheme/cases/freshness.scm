;;; SPDX-License-Identifier: GPL-3.0-or-later

;; Whether what was loaded and lowered is still what a new process would load and lower.

(use-modules (pyguixvm evaluator freshness)
             (guix build utils)
             (guix gexp)
             (guix grafts)
             (guix store)
             (ice-9 match)
             (srfi srfi-1)
             (srfi srfi-64))

(define %searching
  (variable-ref (module-variable (resolve-module '(guile)) 'search-path)))

;; A module that gexps name and nobody loads, as those of programs in guests.
(define %name
  (match (filter (lambda (name)
                   (not (nested-ref-module (resolve-module '() #f) name)))
                 '((gnu build svg) (guix glob) (guix cpio)))
    ((name _ ...) name)))

(define %file
  (string-append (string-join (map symbol->string %name) "/") ".scm"))

(define (lower object)
  (with-store store
    (parameterize ((%graft? #f))
      (run-with-store store (lower-object object)))))

(define* (write-version directory #:optional (text ";a version\n"))
  "Write another version of the module into DIRECTORY; return the directory."
  (let ((file  (string-append directory "/" %file))
        (found (search-path %load-path %file)))
    (mkdir-p (dirname file))
    (copy-file found file)
    (make-file-writable file)
    (let ((port (open-file file "a")))
      (display text port)
      (close-port port))
    directory))

(define-syntax-rule (with-load-path path body ...)
  (let ((before %load-path))
    (dynamic-wind
      (lambda () (set! %load-path path))
      (lambda () body ...)
      (lambda () (set! %load-path before)))))

(define %one   (write-version (mkdtemp "/tmp/freshness-XXXXXX")))
(define %other (mkdtemp "/tmp/freshness-XXXXXX"))

(define (make)
  (scheme-file "naming" (with-imported-modules (list %name) #~(display "here"))))

(test-begin "freshness")

(dynamic-wind
  (lambda ()
    (observe-searches!)
    ;; By a load path that is new: Guix remembers what it finds on each.
    (with-load-path (append %load-path (list %other))
      (lower (make)))
    (note-used-files!))
  (lambda ()
    (test-equal "as it was"
      #f
      (why-unfit '()))

    (test-equal "a directory with nothing of what was used"
      #f
      (with-load-path (cons %other %load-path)
        (why-unfit (list %other))))

    (test-equal "another version of a module that a gexp names"
      'shadowed
      (with-load-path (cons %one %load-path)
        (why-unfit (list %one))))

    (test-equal "another version that is not looked for so far back"
      #f
      (with-load-path (append %load-path (list %one))
        (why-unfit (list %one))))

    (test-equal "a module that a gexp names and that was edited since"
      '(#f outdated)
      (with-load-path (list (write-version %other))
        (lower (make))
        (let ((file (string-append %other "/" %file)))
          ;; A file that is written as it is used counts as edited.
          (utime file 1 1)
          (note-used-files!)
          (let ((before (why-unfit '())))
            (utime file 2 2)
            (let ((after (why-unfit '())))
              (utime file 1 1)
              (list before after))))))

    (test-equal "which directories are searched sooner"
      '(() ("c") () ("a" "b" "a") ("a" "b"))
      (map (lambda (path)
             (with-load-path path (sooner-searched '("b" "a"))))
           '(("b" "a") ("c" "b" "a") ("b" "a") ("a" "b" "a") ("a" "b")))))
  (lambda ()
    (variable-set! (module-variable (resolve-module '(guile)) 'search-path) %searching)
    (delete-file-recursively %one)
    (delete-file-recursively %other)))

(test-end "freshness")
