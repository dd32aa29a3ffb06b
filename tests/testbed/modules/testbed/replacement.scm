;;; SPDX-License-Identifier: GPL-3.0-or-later
;;;
;;; (testbed replacement) -- replace Guix's packages in place.

(define-module (testbed replacement)
  #:use-module ((gnu packages base) #:select (canonical-package))
  #:use-module (guix packages)
  #:use-module (ice-9 match)
  #:use-module (testbed wrapper)
  #:export (replace-package!
            replace-packages!
            replace-canonical-packages!
            replaced-packages
            missing-variables))

;;; Commentary:
;;;
;;; The record that a variable is bound to is overwritten, field by field,
;;; rather than the binding: so every reference to the package sees the change,
;;; also those that the compiler inlined and those in lists that were computed
;;; when a module was loaded.
;;;
;;; Code:

(define %replaced '())                  ;list of (MODULE VARIABLE RECIPE NAME)
(define %missing '())                   ;list of (MODULE VARIABLE)

(define (replaced-packages)
  "Return what was replaced: a list of module name, variable, recipe and
package name."
  (reverse %replaced))

(define (missing-variables)
  "Return the (MODULE VARIABLE) pairs that should have been replaced, but that
this Guix does not have."
  (reverse %missing))

(define (overwrite-record! record new)
  "Give each field of RECORD the value it has in NEW, a record of its type."
  (let loop ((field (- (length (record-type-fields
                                (record-type-descriptor record)))
                       1)))
    (when (>= field 0)
      (struct-set! record field (struct-ref new field))
      (loop (- field 1)))))

(define (wrapped-package original recipe)
  "Return a package like ORIGINAL that is built according to RECIPE."
  (package
    (inherit original)
    (version (or (recipe-version recipe) (package-version original)))
    (build-system (recipe-build-system recipe))
    (arguments '())
    (inputs '())
    (native-inputs '())
    (propagated-inputs '())
    ;; Grafts would be made of packages that cannot be built here.
    (replacement #f)
    (supported-systems '("x86_64-linux"))
    (location (package-location original))))

(define (variable-package module variable)
  "Return the package that VARIABLE is bound to in MODULE, or #f."
  (let* ((module (false-if-exception (resolve-module module #:ensure #f)))
         (value  (and module
                      (false-if-exception (module-ref module variable)))))
    (and (package? value) value)))

(define (replace-package! module variable recipe)
  "Overwrite the package that VARIABLE of MODULE is bound to so that it is built
according to RECIPE; take note of it if there is no such package."
  (match (variable-package module variable)
    (#f
     (set! %missing (cons (list module variable) %missing)))
    (original
     (set! %replaced
           (cons (list module variable recipe (package-name original))
                 %replaced))
     (overwrite-record! original (wrapped-package original recipe)))))

(define (replace-packages! module . variables+recipes)
  "Replace packages of MODULE.  Each of VARIABLES+RECIPES is a list of variables
followed by the recipe for all of them."
  (for-each (match-lambda
              ((variables ... recipe)
               (for-each (lambda (variable)
                           (replace-package! module variable recipe))
                         variables)))
            variables+recipes))

(define (replace-canonical-packages!)
  "Replace the variants that 'canonical-package' returns of packages that were
replaced: builds and services take those."
  (for-each (match-lambda
              ((module variable recipe name)
               (let* ((package   (variable-package module variable))
                      (canonical (canonical-package package)))
                 (unless (eq? canonical package)
                   (overwrite-record! canonical
                                      (wrapped-package canonical recipe))))))
            (replaced-packages)))
