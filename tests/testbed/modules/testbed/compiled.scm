;;; SPDX-License-Identifier: GPL-3.0-or-later
;;;
;;; (testbed compiled) -- modules that Debian has compiled.

(define-module (testbed compiled)
  #:use-module (guix derivations)
  #:use-module (guix monads)
  #:use-module (guix store)
  #:use-module (ice-9 match)
  #:use-module (testbed debian)
  #:use-module (testbed wrapper)
  #:export (take-compiled-modules!))

;;; Commentary:
;;;
;;; Nearly all programs that Guix makes for a system import modules of its own,
;;; each its own selection, which is compiled for it: for a first system that is
;;; most of the work.  Debian's package of Guix holds them compiled.
;;;
;;; Code:

(define (with-compiled-modules arguments preload)
  "Return ARGUMENTS, those of 'raw-derivation', with PRELOAD among the sources."
  (match arguments
    ((#:sources sources . rest)
     (cons* #:sources (cons preload sources) rest))
    ((keyword value . rest)
     (cons* keyword value (with-compiled-modules rest preload)))
    (()
     (list #:sources (list preload)))))

(define (take-compiled-modules!)
  "Have builds that compile modules take what Debian has compiled."
  (let ((original raw-derivation)
        (text     (string-append (script-file "compiled-modules.scm")
                                 ";;; " (debian-stamp '("guix")) "\n")))
    (module-set! (resolve-module '(guix derivations)) 'raw-derivation
                 (lambda (name builder arguments . rest)
                   (match arguments
                     ((option (? (lambda (file)
                                   (string-suffix? "-compile-modules" file))
                                 program))
                      (mlet %store-monad
                          ((preload (text-file "compiled-modules.scm" text)))
                        (apply original name builder
                               (list option "-l" preload program)
                               (with-compiled-modules rest preload))))
                     (_
                      (apply original name builder arguments rest)))))))
