;;; SPDX-License-Identifier: GPL-3.0-or-later

;; What is used of Guix beside what it promises, all in (pyguixvm evaluator guix), is there
;; in this Guix.  Where one is gone, its comment there says what to do without it.

(use-modules (pyguixvm evaluator guix)
             ((pyguixvm machine live) #:select (switch-program))
             (guix gexp)
             (guix monads)
             (guix store)
             (gnu system file-systems)
             (ice-9 vlist)
             (srfi srfi-1)
             (srfi srfi-64)
             ((tests systems) #:select (%os)))

(define (variable module name)
  (and=> (module-variable (resolve-module module) name) variable-ref))

(test-begin "internals")

(test-assert "(guix gexp) has the constructor of local files"
  (procedure? (variable '(guix gexp) '%local-file)))

(test-equal "it is called with the name and the promise of the absolute one"
  '("internals.scm" #t)
  (let ((noted #f)
        (make  (variable '(guix gexp) '%local-file)))
    (dynamic-wind
      (lambda ()
        (observe-local-files! (lambda (file promise)
                                (set! noted (list file (promise? promise))))))
      (lambda ()
        ;; As a configuration does, which is compiled later.
        (primitive-eval '(begin (use-modules (guix gexp))
                                (local-file "internals.scm")))
        noted)
      (lambda ()
        (variable-set! (module-variable (resolve-module '(guix gexp)) '%local-file)
                       make)))))

(test-assert "(guix modules) has the closure of modules"
  (procedure? (variable '(guix modules) 'source-module-closure)))

(test-assert "(guix store) has the caches of a connection"
  (with-store store
    (lset<= eq? '(ats-cache atts-cache caches)
            (record-type-fields (struct-vtable store)))))

(test-equal "(guix store) lowers what is like something lowered no more"
  '(1 1 2 3 3)
  (let* ((calls 0)
         (lower (lambda (object)
                  ((variable '(guix store) '%mcached)
                   (lambda ()
                     (set! calls (+ 1 calls))
                     (with-monad %store-monad (return object)))
                   object '("x86_64-linux")
                   #:vhash-cons vhash-consq #:vhash-fold* vhash-foldq*)))
         (path  %load-path)
         (found (variable '(guix store) '%mcached)))
    (dynamic-wind
      recognize-objects!
      (lambda ()
        (with-store store
          (define (calls-after text)
            (run-with-store store (lower (plain-file "name" text)))
            calls)

          (append (map calls-after '("one" "one" "two"))
                  ;; By another load path, modules of the same names may be others.
                  (begin
                    (expect-load-path!)
                    (set! %load-path (cons "/elsewhere" path))
                    (list (calls-after "one")))
                  (begin
                    (set! %load-path path)
                    (list (calls-after "one"))))))
      (lambda ()
        (set! %load-path path)
        (variable-set! (module-variable (resolve-module '(guix store)) '%mcached)
                       found)))))

(test-assert "(guix gexp) has the types of what consists of gexps"
  (every struct-vtable?
         (map (lambda (name)
                (variable '(guix gexp) name))
              (@@ (pyguixvm evaluator guix) %recognized))))

(test-equal "(guix ui) knows which module exports a variable"
  '(gnu packages bash)
  (module-of-variable 'bash))

(test-assert "(gnu system file-systems) has the types without devices"
  (member "tmpfs" (variable '(gnu system file-systems) '%pseudo-file-system-types)))

(test-equal "what is not there is left alone"
  #f
  (replace! '(guix gexp) 'no-such-procedure identity))

(test-assert "(guix scripts system reconfigure) has what loads a kernel"
  (procedure? (variable '(guix scripts system reconfigure) 'kexec-loading-program)))

(test-equal "without it, a guest is switched, and its kernel is given none"
  '(#f #t)
  (let* ((module (resolve-module '(guix scripts system reconfigure)))
         (there  (module-variable module 'kexec-loading-program)))
    (dynamic-wind
      (lambda ()
        (module-remove! module 'kexec-loading-program))
      (lambda ()
        (list (kexec-loading-program %os)
              (program-file? (switch-program %os #:load-kernel? #t))))
      (lambda ()
        (module-add! module 'kexec-loading-program there)))))

(test-end "internals")
