;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm evaluator evaluation)
  #:use-module (pyguixvm evaluator failure)
  #:use-module (pyguixvm evaluator json)
  #:use-module (pyguixvm evaluator load)
  #:use-module (pyguixvm evaluator store)
  #:use-module (pyguixvm machine)
  #:use-module (pyguixvm system kinds)
  #:use-module (srfi srfi-1)
  #:use-module (srfi srfi-26)
  #:export (evaluate))

;;; Commentary:
;;;
;;; What a configuration declares, and as much of its derivations as is wanted.
;;;
;;; Code:

(define (machines->json file machines want shared-store? prepare)
  "Return the JSON of each of MACHINES, or a failure."
  (define kinds
    (map (cut machine-image-kind <> #:shared-store? shared-store?) machines))

  (define (lower store machine kind)
    (and=> (image-kind-lower kind)
           (lambda (lower)
             (run-with-guix store (lower machine want)))))

  (define (describe-all lower)
    (map (lambda (machine kind)
           (call-with-failure-handling file
             (lambda ()
               (machine->json machine kind (lower machine kind)))
             #:location (virtual-machine-location machine)))
         machines kinds))

  (if (or (eq? want 'metadata)
          (not (any image-kind-lower kinds)))
      (describe-all (const #f))
      (call-with-guix
       (lambda (store)
         (prepare store)
         (describe-all (cut lower store <> <>))))))

(define* (evaluate config #:key (want 'metadata) names shared-store?
                   (prepare (const #t)))
  "Return as JSON what the file CONFIG declares, or the error in it.  WANT is one of
'metadata, which computes no derivation; 'systems, which adds those of the
operating systems, and builds nothing; 'derivations, which adds those of the disk
images; and 'images, which adds both, and the content of the images.  With
SHARED-STORE?, machines with an operating-system run from the store of their host, and
have no image.  NAMES restricts the result to the machines with one of them, unless it
is #f.  PREPARE is called with a connection to the store before it is used."
  (define (describe file)
    (let* ((deployment (load-configuration file))
           (results    (machines->json file
                                       (select-machines
                                        (deployment-machines deployment) names)
                                       want shared-store? prepare)))
      (or (find failure? results)
          (deployment->json deployment file results))))

  (let ((result (call-with-configuration-file config describe)))
    (if (failure? result)
        (failure->json result)
        `(("deployment" . ,result)))))
