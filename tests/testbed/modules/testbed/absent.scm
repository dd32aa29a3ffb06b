;;; SPDX-License-Identifier: GPL-3.0-or-later
;;;
;;; (testbed absent) -- packages that the test bed does not have.

(define-module (testbed absent)
  #:use-module (guix build-system)
  #:use-module (testbed wrapper)
  #:export (refuse-other-packages!))

;;; Commentary:
;;;
;;; A package that nobody wrapped cannot be built here: it would take sources
;;; from the network, down to those of the first compiler.  Rather than have the
;;; daemon try, such a package's derivation is one that fails, and says why.
;;;
;;; Code:

(define (buildable? build-system)
  "Return true if packages with BUILD-SYSTEM can be built in the test bed."
  (memq (build-system-name build-system) '(debian trivial)))

(define (absent name)
  "Return the build system of the package called NAME."
  (recipe-build-system
   (recipe (string-append "\
echo '" name ": the test bed does not have this package;' >&2
echo 'see tests/testbed/modules/README.md for how to add it.' >&2
exit 1
"))))

(define (refuse-other-packages!)
  "Have packages that were not replaced be refused by their build."
  (let ((original make-bag))
    (module-set! (resolve-module '(guix build-system)) 'make-bag
                 (lambda* (build-system name #:key source (inputs '())
                                        (native-inputs '()) (outputs '())
                                        (arguments '()) system target)
                   (if (buildable? build-system)
                       (original build-system name
                                 #:source source
                                 #:inputs inputs
                                 #:native-inputs native-inputs
                                 #:outputs outputs
                                 #:arguments arguments
                                 #:system system
                                 #:target target)
                       (original (absent name) name
                                 #:outputs outputs
                                 #:system system))))))
