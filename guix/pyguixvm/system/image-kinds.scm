;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm system image-kinds)
  #:use-module (pyguixvm machine)
  #:use-module (pyguixvm system image)
  #:use-module (pyguixvm system local-image)
  #:use-module (pyguixvm system remote-image)
  #:use-module (pyguixvm system vm)
  #:use-module (srfi srfi-1)
  #:use-module (srfi srfi-9)
  #:export (machine-image-kind
            image-kind-validate
            image-kind-lower
            image-kind->json
            image-kind-mount-points))

;;; Commentary:
;;;
;;; The kinds of images that machines run from.
;;;
;;; Code:

(define-record-type <image-kind>
  (image-kind of? validate lower ->json mount-points)
  image-kind?
  ;; Is MACHINE one of this kind, given SHARED-STORE?, whether all machines are to run
  ;; from the store of their host?
  (of?          image-kind-of?)
  ;; Refuse MACHINE if it breaks a rule of this kind.
  (validate     image-kind-validate)
  ;; Return, as a monadic value, what WANT asks for of MACHINE; #f for a kind with
  ;; nothing to compute.
  (lower        image-kind-lower)
  ;; Return the JSON of MACHINE's image and of what was lowered, or #f.
  (->json       image-kind->json)
  ;; The <mount-point>s that machines of this kind have beside those declared.
  (mount-points image-kind-mount-points))

(define (local-image-machine? machine shared-store?)
  (local-image? (virtual-machine-image machine)))

(define (remote-image-machine? machine shared-store?)
  (remote-image? (virtual-machine-image machine)))

(define (shared-store-machine? machine shared-store?)
  (or shared-store? (virtual-machine-shared-store? machine)))

(define (system-image-machine? machine shared-store?)
  #t)

(define %image-kinds
  ;; The first one that a machine is of is its kind.  A new one is a module beside
  ;; those, and a line here.
  (list (image-kind local-image-machine?
                    validate-local-image #f local-image->json '())
        (image-kind remote-image-machine?
                    validate-remote-image #f remote-image->json '())
        (image-kind shared-store-machine?
                    validate-system-image lower-shared-store shared-store->json
                    (list %store-mount-point))
        (image-kind system-image-machine?
                    validate-system-image lower-system-image system-image->json '())))

(define* (machine-image-kind machine #:key shared-store?)
  "Return the <image-kind> of MACHINE, which has an image or an operating-system."
  (find (lambda (kind)
          ((image-kind-of? kind) machine shared-store?))
        %image-kinds))
