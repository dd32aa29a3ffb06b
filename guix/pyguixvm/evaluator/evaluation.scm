;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm evaluator evaluation)
  #:use-module (pyguixvm diagnostics)
  #:use-module (pyguixvm evaluator configuration)
  #:use-module (pyguixvm evaluator failure)
  #:use-module (pyguixvm evaluator findings)
  #:use-module (pyguixvm evaluator handling)
  #:use-module (pyguixvm evaluator json)
  #:use-module (pyguixvm evaluator load)
  #:use-module (pyguixvm evaluator provenance)
  #:use-module (pyguixvm evaluator store)
  #:use-module (pyguixvm lint machine)
  #:use-module (pyguixvm machine)
  #:use-module (pyguixvm system image-kinds)
  #:use-module (guix grafts)
  #:use-module (ice-9 match)
  #:use-module (srfi srfi-1)
  #:use-module (srfi srfi-11)
  #:use-module (srfi srfi-26)
  #:export (evaluate
            lowered-deployment->json))

;;; Commentary:
;;;
;;; What a configuration declares, and as much of its derivations as is wanted.
;;;
;;; Code:

(define (lower/no-build lower)
  "Return what LOWER, a thunk, returns, and whether that has the grafts that are wanted: it
is without them where nobody can know with them before something is built."
  (match (call-without-building lower)
    (#f
     (values (parameterize ((%graft? #f))
               (lower))
             (not (%graft?))))
    (lowered
     (values lowered #t))))

(define (machines->json machines want shared-store? build? prepare)
  "Return the JSON of each of MACHINES, or what stands for it where that fails."
  (define kinds
    (map (cut machine-image-kind <> #:shared-store? shared-store?) machines))

  (define (nothing kind machine)
    (values #f #t))

  (define (lower store)
    (lambda (kind machine)
      (define (lower-image)
        (run-with-guix store ((image-kind-lower kind) machine want)))

      (cond ((not (image-kind-lower kind)) (nothing kind machine))
            (build?                        (values (lower-image) #t))
            (else                          (lower/no-build lower-image)))))

  (define (describe-all lower)
    (map (lambda (machine kind)
           (attempt (lambda ()
                      (let-values (((lowered grafted?) (lower kind machine)))
                        (machine->json machine kind lowered
                                       #:grafted? grafted?)))
                    (virtual-machine-location machine)))
         machines kinds))

  (if (or (eq? want 'metadata)
          (not (any image-kind-lower kinds)))
      (describe-all nothing)
      (call-with-guix
       (lambda (store)
         (prepare store)
         (describe-all (lower store))))))

(define* (evaluate config #:key (want 'metadata) (names '()) (tags '())
                   shared-store? (build? #t)
                   (prepare (const #t)))
  "Return as JSON what CONFIG, see 'find-configuration', declares, or the errors in it.
WANT is one of 'metadata, which computes no derivation; 'systems, which adds those of the
operating systems, and builds nothing; 'derivations, which adds those of the disk
images; and 'images, which adds both, and the content of the images.  With
SHARED-STORE?, machines with an operating-system run from the store of their host, and
have no image.  Unless BUILD?, nothing is built for that: what cannot be known before is
as without grafts, and says so.  NAMES and TAGS restrict the result to the machines with
one of them, unless both are empty.  PREPARE is called with a connection to the store
before it is used."
  (define (describe configuration findings)
    (let ((deployment (load-configuration configuration)))
      ;; Who does not ask what is wrong wants to know soon that something is.
      (and (or (null? (findings-failures findings))
               (eq? want 'systems))
           (deployment->json deployment
                             (configuration-name configuration)
                             (machines->json
                              (filter lowerable?
                                      (select-machines
                                        (deployment-machines deployment) names tags))
                               want shared-store? build? prepare)
                             (provenance->json (configuration-file configuration))))))

  (match (call-with-failure-handling (cut find-configuration config))
    ((? failure? failure)
     (failure->json failure))
    (configuration
     (let-values (((deployment findings)
                   (call-with-findings (configuration-file configuration)
                                       (cut describe configuration <>))))
       `(,@(if (null? (findings-failures findings))
               `(("deployment" . ,deployment))
               '())
         ,@(findings->json findings))))))

(define (lowered-deployment->json deployment file store)
  "Return as JSON what 'evaluate' returns of DEPLOYMENT, which FILE declares, with its
images; on STORE, by whose options they are built."
  (define (describe machine)
    (let ((kind (machine-image-kind machine
                                    #:shared-store?
                                    (virtual-machine-shared-store? machine))))
      (machine->json machine kind
                     (and=> (image-kind-lower kind)
                            (lambda (lower)
                              (run-with-guix store (lower machine 'images)))))))

  (let-values (((json findings)
                (call-with-findings
                 file
                 (lambda (findings)
                   (deployment->json deployment file
                                     (map describe (deployment-machines deployment))
                                     (provenance->json file))))))
    `(("deployment" . ,json)
      ,@(findings->json findings))))
