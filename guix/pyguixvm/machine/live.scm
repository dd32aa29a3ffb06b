;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm machine live)
  #:use-module ((pyguixvm build live) #:select (boots-by))
  #:use-module ((pyguixvm evaluator guix) #:select (kexec-loading-program))
  #:use-module (pyguixvm evaluator realization)
  #:use-module (pyguixvm evaluator store)
  #:use-module (pyguixvm json)
  #:use-module (pyguixvm machine pinned)
  #:use-module (gnu bootloader)
  #:use-module (gnu packages guile)
  #:use-module (gnu services)
  #:use-module (gnu services base)
  #:use-module (gnu services shepherd)
  #:use-module (gnu system)
  #:use-module (guix derivations)
  #:use-module (guix gexp)
  #:use-module (guix monads)
  #:use-module (guix store)
  #:use-module (ice-9 match)
  #:use-module (srfi srfi-1)
  #:use-module (srfi srfi-26)
  #:export (switch-program
            prepare-live))

;;; Commentary:
;;;
;;; Another system in a guest that runs, without Guix, ssh or network there: a program
;;; that switches to it is built here, and what the guest lacks of it is told.
;;;
;;; Code:

(define (shepherd-services os)
  (shepherd-configuration-services
   (service-value
    (fold-services (operating-system-services os)
                   #:target-type shepherd-root-service-type))))

(define (service->sexp service)
  "Return what 'switch-system' is to know of SERVICE."
  (list (shepherd-service-provision service)
        (shepherd-service-auto-start? service)
        (shepherd-service-one-shot? service)))

(define (has-guix? os)
  (any (lambda (service)
         (eq? guix-service-type (service-kind service)))
       (operating-system-services os)))

(define* (switch-program os #:key load-kernel?)
  "Return the program that has the guest it runs in run OS.  Its argument is a file with
the store items that came with it, as for 'register-items'.  With LOAD-KERNEL?, it has the
kernel take what a guest boots OS by, for kexec(8)."
  (define bootcfg-file
    (bootloader-configuration-file
     (bootloader-configuration-bootloader (operating-system-bootloader os))))

  (define register
    ;; Only where there is a Guix is there a database.
    (if (has-guix? os)
        #~(lambda ()
            (register-items
             (call-with-input-file (cadr (command-line)) read)))
        #~(const #t)))

  (define load-kernel
    ;; It brings 1.6 MB of code.
    (and load-kernel?
         (match (kexec-loading-program os)
           (#f      #~(lambda () (error "this Guix loads no kernel")))
           (program #~(lambda () (primitive-load #$program))))))

  (define modules
    `((pyguixvm build live)
      (pyguixvm build services)
      (gnu services herd)
      ,@(if (has-guix? os)
            '((pyguixvm build registration))
            '())))

  (program-file
   "switch-to-system"
   (with-extensions (if (has-guix? os) (list guile-sqlite3) '())
     (with-imported-modules modules
       #~(begin
           (use-modules (pyguixvm build live)
                        #$@(if (has-guix? os)
                               '((pyguixvm build registration))
                               '()))
           (switch-system #$os
                          #:boot-configuration #$(operating-system-bootcfg os)
                          #:boot-configuration-file #$bootcfg-file
                          #:services '#$(map service->sexp (shepherd-services os))
                          #:register #$register
                          #:load-kernel #$load-kernel))))))

(define* (prepare-live config name #:key system root-uuid known program
                       (prepare (const #t)))
  "Build the operating-system of the machine NAME in CONFIG, and the program that switches
to it.  Return JSON: PROGRAM, SYSTEM, its CLOSURE, which is all that the guest needs, and
ITEMS, those of the closure that a guest with KNOWN, a system, and PROGRAM, which switched
it to that, lacks; none of them if KNOWN is not in this store any more.  The other
arguments are as for 'call-with-pinned-system'."
  (define (built object)
    (mlet %store-monad ((drv (lower-object object)))
      (mbegin %store-monad
        (built-derivations (list drv))
        (return (derivation->output-path drv)))))

  (define (build store machine os)
    (define there
      (and known (valid-path? store known) known))

    (match (run-with-guix store
             (mlet* %store-monad
                 ((system (built os))
                  (alike? -> (and there (equal? (boots-by there) (boots-by system))))
                  (switch (built (switch-program os #:load-kernel? (not alike?)))))
               (return (list switch system))))
      ((switch system)
       (let* ((closure (requisites store (list switch)))
              (present (and there
                            (requisites store
                                        (filter (cut valid-path? store <>)
                                                (delete #f (list there program)))))))
         (object ("program" switch)
                 ("system"  system)
                 ("closure" (list->vector closure))
                 ("items"   (list->vector
                             (if present
                                 (map (lambda (item)
                                        (item->json (query-path-info store item)
                                                    item))
                                      (lset-difference string=? closure present))
                                 '()))))))))

  (call-with-pinned-system config name system root-uuid prepare build))
