;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm system remote-image)
  #:use-module (pyguixvm json)
  #:use-module (pyguixvm machine)
  #:use-module (pyguixvm system local-image)
  #:export (validate-remote-image
            remote-image->json))

;;; Commentary:
;;;
;;; A disk image that is fetched, once, when a machine needs it.  What it is is told by its
;;; digest, so that nothing of it is looked at here.
;;;
;;; Code:

(define (validate-remote-image machine)
  "Refuse MACHINE if it asks for what cannot be had with a <remote-image>."
  (refuse-what-is-made machine))

(define (remote-image->json machine _)
  "Return the JSON of the <remote-image> of MACHINE."
  `(("kind" . "remote-image")
    ,@(declaration->json (virtual-machine-image machine))))
