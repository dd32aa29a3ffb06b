;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm evaluator guix)
  #:use-module (pyguixvm evaluator likeness)
  #:use-module (guix gexp)
  #:use-module (guix modules)
  #:use-module (guix store)
  #:use-module (guix ui)
  #:use-module (ice-9 vlist)
  #:use-module (srfi srfi-1)
  #:use-module (srfi srfi-26)
  #:export (replace!
            observe-local-files!
            remember-module-closures!
            recognize-objects!
            expect-load-path!
            adopt-caches
            module-of-variable
            expect-shared-directories!
            kexec-loading-program))

;;; Commentary:
;;;
;;; What another version of Guix may have otherwise: its private variables and fields,
;;; and procedures of its that are replaced.  Each says what becomes of us without it.
;;;
;;; Code:

(define (replace! module name wrap)
  "In this process, replace the procedure NAME of MODULE, a list of symbols, by what
WRAP, a procedure, makes of it; if there is none, do nothing."
  (and=> (module-variable (resolve-module module) name)
         (lambda (variable)
           (variable-set! variable (wrap (variable-ref variable))))))


;;;
;;; Files.
;;;

;; Private: '%local-file' of (guix gexp), to which 'local-file' expands, takes a file name
;; and a promise of the absolute one.  Without it, a change of such a file would not be
;; seen.
(define (observe-local-files! note)
  "From now on, call NOTE with the file name and the promise of the absolute one of each
'local-file'."
  (replace! '(guix gexp) '%local-file
            (lambda (make)
              (lambda (file promise . options)
                (note file promise)
                (apply make file promise options)))))


;;;
;;; Modules.
;;;

(define (remembering closure)
  "Return a procedure that answers as CLOSURE, which is 'source-module-closure', but
computes no answer twice."
  (define answers
    (make-hash-table))

  (lambda* (modules #:optional (load-path %load-path)
                    #:key (select? guix-module-name?))
    (let ((question (list modules load-path select?)))
      (or (hash-ref answers question)
          (let ((answer (closure modules load-path #:select? select?)))
            (hash-set! answers question answer)
            answer)))))

;; Public, but replaced: the gexps of a system ask again and again which modules a few of
;; Guix's modules need, and each time Guix looks for them all in every directory of the
;; load path: thousands of 'stat' calls, a fifth of the time that lowering takes in a
;; process which has all else in its caches.
(define (remember-module-closures!)
  "From now on, in this process, take for granted which modules need which.  To be
called in the process of a single evaluation: the next one may find other files."
  (replace! '(guix modules) 'source-module-closure remembering))


;;;
;;; Caches.
;;;

;; Private: these fields of (guix store)'s <store-connection>, hence looked up by name.
;; Without them an evaluation is right but slow.
(define (adopt-caches origin)
  "Return a procedure that gives a connection the caches of ORIGIN, an open
connection that must not be used at the same time."
  (define type
    (struct-vtable origin))

  ;; The tables of a parent are ours alone once we are forked: no need to copy them.
  ;; Nothing in (guix store) sets these fields, so that there is no modifier.
  (define (share field store)
    (struct-set! store (list-index (cut eq? field <>) (record-type-fields type))
                 ((record-accessor type field) origin)))

  (lambda (store)
    (when (lset<= eq? '(ats-cache atts-cache caches) (record-type-fields type))
      ((record-modifier type 'caches)
       store (vector-copy ((record-accessor type 'caches) origin)))
      (share 'ats-cache store)
      (share 'atts-cache store))))

(define %recognized
  ;; Names of types in (guix gexp), those of a gexp and of what is made of gexps alone.  A
  ;; <local-file>, which says nothing of its content, is none of them.
  '(<gexp> <gexp-input> <gexp-output>
    <computed-file> <program-file> <scheme-file> <plain-file> <file-append>))

(define (private-types module names)
  "Return those of NAMES that MODULE, a list of symbols, has as types."
  (filter-map (lambda (name)
                (and=> (module-variable (resolve-module module) name) variable-ref))
              names))

(define %expected-load-path
  ;; The load path that objects are lowered by, or #f: by any.
  #f)

(define (expect-load-path!)
  "From now on, recognize no object while the load path is another than that of the first
such call: gexps say which modules they need by their names alone."
  (unless %expected-load-path
    (set! %expected-load-path %load-path)))

(define (recognizable? options)
  "Does '%mcached', called with OPTIONS, look for an object that may be recognized?"
  ;; Other objects are looked up by 'equal?' already.
  (and (memq vhash-consq options)
       (or (not %expected-load-path)
           (eq? %expected-load-path %load-path))))

;; Private: '%mcached' of (guix store), by which 'lower-object' looks up what became of an
;; object, and the types of the objects.  Without it, each evaluation lowers all services
;; again, which takes twice the time.
(define recognize-objects!
  (let ((replaced? #f))
    (lambda ()
      "From now on, in this process and its children, have an object lowered as the first
one was that is like it, see 'make-representative'.  That the modules which its gexps name
are the same files as then is for the caller to see to, see (pyguixvm evaluator freshness)."
      (unless replaced?
        (set! replaced? #t)
        (let ((representative (make-representative (private-types '(guix gexp) %recognized)
                                                   #:ignored '(location))))
          (replace! '(guix store) '%mcached
                    (lambda (cached)
                      (lambda (mthunk object . options)
                        (apply cached mthunk
                               (if (recognizable? options)
                                   (representative object)
                                   object)
                               options)))))))))


;;;
;;; Hints.
;;;

;; Private: 'known-variable-definition' of (guix ui), which makes the hint that 'guix
;; system' gives.  Without it the hint names no module.
(define (module-of-variable variable)
  "Return the name of a module of Guix's that exports VARIABLE, or #f."
  (and=> (module-variable (resolve-module '(guix ui)) 'known-variable-definition)
         (lambda (known-variable-definition)
           (and=> ((variable-ref known-variable-definition) variable)
                  module-name))))


;;;
;;; Deployment.
;;;

;; Public, but changed: 'managed-host-environment-type' has the guest look for the device
;; of each file system that is not of these types.  Guix knows that the device of a
;; virtiofs is none; that of a 9p is a tag of the hypervisor's as well.  Without it, a
;; guest with a directory that is shared by 9p could not be changed in place.
(define (expect-shared-directories!)
  "In this process, have deployments take for granted what is shared by 9p."
  (replace! '(gnu system file-systems) '%pseudo-file-system-types
            (lambda (types)
              (if (member "9p" types)
                  types
                  (cons "9p" types)))))

;; Private: 'kexec-loading-program' of (guix scripts system reconfigure), which Guix has since
;; the end of 2024.  Without it, a guest that is changed live boots another kernel by a restart.
(define (kexec-loading-program os)
  "Return the program that has the kernel which runs it take what OS boots by, or #f."
  (and=> (module-variable (resolve-module '(guix scripts system reconfigure))
                          'kexec-loading-program)
         (lambda (kexec-loading-program)
           ((variable-ref kexec-loading-program) os))))
