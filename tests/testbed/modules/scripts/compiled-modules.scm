;;; SPDX-License-Identifier: GPL-3.0-or-later
;;;
;;; Loaded before the program by which Guix compiles modules: those that Debian has,
;;; source and all, are neither loaded nor compiled, but taken as Debian compiled them.

(use-modules (ice-9 binary-ports)
             (ice-9 ftw)
             (ice-9 match)
             (system base compile))

(define %sources "/usr/share/guile/site/3.0/")
(define %compiled "/usr/lib/x86_64-linux-gnu/guile/3.0/site-ccache/")
;; What the modules to be compiled find compiled.
(define %taken (string-append (getcwd) "/taken/"))

(define (compiled-name file)
  (string-append (string-drop-right file (string-length ".scm")) ".go"))

(define (content file)
  (call-with-input-file file get-bytevector-all #:binary #t))

(define (take file modules)
  "Take what Debian has compiled of FILE, a name in the directory MODULES."
  (let ((source   (string-append %sources file))
        (compiled (string-append %compiled (compiled-name file)))
        (taken    (string-append %taken (compiled-name file))))
    (when (and (file-exists? source)
               (file-exists? compiled)
               (equal? (content (string-append modules "/" file))
                       (content source)))
      (mkdir-p (dirname taken))
      (symlink compiled taken))))

(define (mkdir-p directory)
  (unless (file-exists? directory)
    (mkdir-p (dirname directory))
    (mkdir directory)))

(define (taken file)
  "Return the compiled file of FILE if it was taken, or #f."
  (let ((name (string-append %taken (compiled-name file))))
    (and (file-exists? name) name)))

(let ((modules (getenv "modules")))
  (ftw modules
       (lambda (file stat flag)
         (when (string-suffix? ".scm" file)
           (take (string-drop file (+ (string-length modules) 1)) modules))
         #t)))
(set! %load-compiled-path (cons %taken %load-compiled-path))

;; The program goes on in another module.
(define-syntax-rule (override! module name (original) procedure)
  (let ((original (module-ref (resolve-module 'module) 'name)))
    (module-set! (resolve-module 'module) 'name procedure)))

(override! (guile) primitive-load (original)
           (lambda (file)
             (unless (and (string-prefix? "./" file) (taken file))
               (original file))))

(override! (system base compile) compile-file (original)
           (lambda* (file #:key output-file #:allow-other-keys #:rest options)
             (match (taken file)
               (#f       (apply original file options))
               (compiled (copy-file compiled output-file)))))
