;;; SPDX-License-Identifier: GPL-3.0-or-later
;;;
;;; (testbed world) -- Guix's packages as this test bed has them.

(define-module (testbed world)
  #:use-module (testbed absent)
  #:use-module (testbed compiled)
  #:use-module (testbed images)
  #:use-module (testbed kernel)
  #:use-module (testbed programs)
  #:use-module (testbed replacement)
  #:use-module (testbed runtime)
  #:use-module (testbed services)
  #:export (replace-guix-packages!))

(define (replace-guix-packages!)
  "Replace, in place, all packages that the test bed can deliver.  To be called
once, before anything computes a derivation: Guix remembers those."
  (replace-runtime-packages!)
  (replace-kernel-packages!)
  (replace-image-packages!)
  (replace-program-packages!)
  (replace-service-packages!)
  (replace-canonical-packages!)
  (replace-artwork!)
  (refuse-other-packages!)
  (take-compiled-modules!)
  (load-root-file-system-modules!))
