;;; SPDX-License-Identifier: GPL-3.0-or-later
;;;
;;; (testbed wrapper) -- Guix packages whose build wraps files of Debian.

(define-module (testbed wrapper)
  #:use-module (guix build-system)
  #:use-module (guix derivations)
  #:use-module (guix gexp)
  #:use-module (guix monads)
  #:use-module (guix packages)
  #:use-module (guix store)
  #:use-module (ice-9 match)
  #:use-module (ice-9 textual-ports)
  #:use-module (srfi srfi-1)
  #:use-module (srfi srfi-9)
  #:use-module (testbed debian)
  #:export (recipe
            nothing
            recipe-version
            recipe->derivation
            recipe->package
            recipe-build-system
            script-file
            testbed-file))

;;; Commentary:
;;;
;;; A recipe says how to make a store item out of files of the Debian system
;;; in which guix-daemon runs (with --disable-chroot, so that builders see
;;; them).  The build is a raw derivation that runs a shell script: nothing of
;;; Guix's own tool chain, which could only be downloaded, takes part in it.
;;;
;;; Code:

(define-record-type <recipe>
  (make-recipe script inputs debian version)
  recipe?
  (script  recipe-script)                         ;string: shell commands
  (inputs  recipe-inputs)                         ;alist: variable -> file-like
  (debian  recipe-debian)                         ;names of Debian packages
  (version recipe-version))                       ;string | #f: Guix's own

(define* (recipe script #:key (inputs '()) (debian '()) version)
  "Return a recipe that runs SCRIPT, shell commands that find their INPUTS, an
alist of names and file-like objects, in variables of these names and write to
$out (and to the package's other outputs).  DEBIAN are the Debian packages that
the files come from.  VERSION replaces the wrapped package's own where Guix's
code goes by it."
  (make-recipe script inputs debian version))

(define %directory
  (dirname (dirname (search-path %load-path "testbed/wrapper.scm"))))

(define (testbed-file name)
  "Return the absolute file name of NAME, a file next to these modules."
  (string-append %directory "/" name))

(define (script-file name)
  "Return the text of the shell script NAME of the scripts directory."
  (call-with-input-file (testbed-file (string-append "scripts/" name))
    get-string-all))

(define %prelude
  ;; Shell functions that all recipes can use.
  (delay (script-file "prelude.sh")))

(define (with-outputs script outputs)
  "Return SCRIPT followed by commands that make those of OUTPUTS that it did
not make: the daemon wants them all."
  (string-append script "\n"
                 (string-concatenate
                  (map (lambda (output)
                         (string-append "[ -e $" output " ] || mkdir -p $"
                                        output "\n"))
                       outputs))))

(define (recipe->derivation recipe name outputs)
  "Return, as a monadic value, the derivation called NAME with OUTPUTS that
follows RECIPE."
  (define (store-path thing)
    (if (derivation? thing)
        (derivation->output-path thing)
        thing))

  (mlet* %store-monad
      ;; A builder has to be in the store: Debian's smallest shell goes there.
      ((shell   (interned-file "/usr/bin/dash" "dash" #:recursive? #t))
       (prelude (text-file "prelude.sh" (force %prelude)))
       (inputs  (mapm %store-monad
                      (match-lambda
                        ((_ . object) (lower-object object)))
                      (recipe-inputs recipe))))
    (raw-derivation name shell
                    (list "-c" (string-append
                                ". $prelude\n"
                                (with-outputs (recipe-script recipe) outputs)))
                    #:inputs (map (lambda (drv)
                                    (derivation-input drv '("out")))
                                  (filter derivation? inputs))
                    #:sources (cons* shell prelude (filter string? inputs))
                    #:outputs outputs
                    #:env-vars `(("prelude" . ,prelude)
                                 ("stamp" . ,(debian-stamp
                                              (recipe-debian recipe)))
                                 ("debian" . ,(string-join
                                               (recipe-debian recipe)))
                                 ,@(map (lambda (input thing)
                                          (cons (car input)
                                                (store-path thing)))
                                        (recipe-inputs recipe) inputs))
                    #:local-build? #t
                    #:substitutable? #f)))

(define (recipe-build-system recipe)
  "Return the build system that follows RECIPE.  It holds the recipe itself,
rather than getting it as a package argument, because packages that inherit
from a wrapped one may change its arguments."
  (build-system
    (name 'debian)
    (description "Wrap files of the surrounding Debian system.")
    (lower (lambda* (name #:key system target outputs #:allow-other-keys)
             (bag
               (name name)
               (system system)
               (outputs outputs)
               (arguments '())
               (build (lambda* (name _ #:key outputs #:allow-other-keys)
                        (recipe->derivation recipe name outputs))))))))

(define (recipe->package name recipe)
  "Return a package called NAME that follows RECIPE and has no counterpart
among Guix's packages."
  (package
    (name name)
    (version (or (recipe-version recipe) "debian"))
    (source #f)
    (build-system (recipe-build-system recipe))
    (home-page "https://www.debian.org")
    (synopsis "Files of Debian for the test bed")
    (description "Files of the Debian system in which the test bed runs.")
    (license #f)))

(define nothing
  ;; For packages of which nothing is needed: libraries that are in the runtime
  ;; anyway, and what is of no use in a virtual machine.
  (recipe ""))
