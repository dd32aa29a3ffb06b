;;; SPDX-License-Identifier: GPL-3.0-or-later

(use-modules (pyguixvm evaluator compilation)
             (guix discovery)
             (guix build utils)
             (guix utils)
             (ice-9 popen)
             (ice-9 textual-ports)
             (srfi srfi-1)
             (srfi srfi-64))

;; Whatever looks for packages, services or images, 'guix package -L guix' for one, loads
;; every file below the directories of the load path, as 'scheme-modules' does here.

(define %root
  (canonicalize-path
   (dirname (search-path %load-path "pyguixvm.scm"))))

(define %scan
  ;; In a process of its own, which has loaded none of them.
  `(begin
     (use-modules (guix discovery))

     (define (state)
       (list (getcwd) (environ) (umask) %load-path %load-compiled-path %load-hook
             %load-should-auto-compile
             (map (lambda (variable)
                    (module-ref (resolve-module (car variable)) (cdr variable)))
                  '(((guile) . open-file)
                    ((guile) . primitive-load-path)
                    ((guix gexp) . %local-file)
                    ((guix modules) . source-module-closure)))))

     (define before (state))
     (define refused '())
     (define found
       (map module-name
            (scheme-modules ,%root
                            #:warn (lambda (file module . args)
                                     (set! refused (cons module refused))))))

     (write (list found refused (equal? before (state))))))

(define (run-scan)
  "Return what the scan wrote to its standard output and error ports, as a string."
  (call-with-temporary-output-file
   (lambda (script port)
     (write %scan port)
     (close-port port)
     (let* ((port   (open-pipe* OPEN_READ "sh" "-c"
                                "exec guix repl -L \"$1\" -- \"$2\" 2>&1 </dev/null"
                                "sh" %root script))
            (output (get-string-all port)))
       (close-pipe port)
       output))))

(test-begin "modules")

(define %expected
  (scheme-modules* %root))

(test-assert "there are modules"
  (member '(pyguixvm machine) %expected))

(test-equal "each file is a module of its name, and loads without an effect"
  (object->string (list %expected '() #t))
  (run-scan))

;; Guix loads its extensions itself, from source, and the package is not the evaluator's.
(define %evaluator
  (fold delete %expected '((guix extensions vm) (pyguixvm-package))))

;; Compiling one that is not loaded leaves it without bindings.
(for-each resolve-interface %evaluator)

;; The evaluator starts from compiled modules the next time.
(call-with-temporary-directory
 (lambda (directory)
   (setenv "XDG_CACHE_HOME" directory)
   (let ((compiled (compiled-directory %root)))
     (test-assert "nothing is compiled at first"
       (not (compiled? %root compiled)))
     (compile-modules %root compiled)
     (test-equal "each module is compiled"
       (sort (map (lambda (module)
                    (string-append compiled "/"
                                   (string-join (map symbol->string module) "/")
                                   ".go"))
                  %evaluator)
             string<?)
       (sort (find-files compiled) string<?))
     (test-assert "and found to be"
       (compiled? %root compiled)))
   (unsetenv "XDG_CACHE_HOME")))

;; Guile's own 'compile-file' tries for ever to make it.
(test-equal "a directory that cannot be made is an error"
  ENOENT
  (catch 'system-error
    (lambda ()
      (alarm 60)
      (compile-to %root "/proc/nonexistent/compiled"))
    (lambda args
      (alarm 0)
      (system-error-errno args))))

(test-end "modules")
