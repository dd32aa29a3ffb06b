;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm evaluator json)
  #:use-module (pyguixvm json)
  #:use-module (pyguixvm libvirt)
  #:use-module (pyguixvm machine)
  #:use-module (pyguixvm readiness)
  #:use-module (pyguixvm storage)
  #:use-module (pyguixvm system guest)
  #:use-module (pyguixvm system image-kinds)
  #:use-module (ice-9 match)
  #:use-module (srfi srfi-1)
  #:use-module (srfi srfi-26)
  #:export (%schema
            deployment->json
            machine->json))

;;; Commentary:
;;;
;;; A deployment as JSON.  Its other side is pyguixvm/model/declaration.py, which
;;; refuses keys that it does not know; %SCHEMA tells apart versions that do not
;;; understand each other.
;;;
;;; The fields of declarations are told as they are.  What stands here is what follows
;;; from several of them, or from the operating-system.
;;;
;;; Code:

(define %schema 1)

(define (readiness->json form)
  `(("kind" . ,(symbol->string (readiness-kind form)))
    ,@(map (match-lambda
             ((property . value) (cons (symbol->string property) value)))
           (readiness-properties form))))

(define interface->json
  (match-lambda
    ((networking mac-address _)
     `(,@(declaration->json networking #:except '(mac-address))
       ("mac-address" . ,mac-address)))))

(define (disk->json disk)
  (if (block-device? disk)
      (object ("kind"   "block-device")
              ("device" (block-device-file disk)))
      `(("kind" . "data-disk")
        ,@(declaration->json disk))))

(define (mount-point->json machine mount)
  `(,@(declaration->json mount #:except '(driver))
    ("driver" . ,(sharing-driver machine mount))))

(define (domain->json machine further-mounts)
  "Return the JSON of the domain of MACHINE, to which FURTHER-MOUNTS, a list of
<mount-point>, are shared as well."
  (define domain
    (virtual-machine-libvirt-domain machine))

  (define (all ->json items)
    (list->vector (map ->json items)))

  `(,@(declaration->json domain #:except '(networking mount-points disks))
    ,@(object
       ("networking"   (all interface->json (machine-interfaces machine)))
       ("mount-points" (all (cut mount-point->json machine <>)
                            (append (libvirt-domain-mount-points domain)
                                    further-mounts)))
       ("disks"        (all disk->json (machine-disks machine))))))

(define (image->json machine kind lowered grafted?)
  `(,@((image-kind->json kind) machine lowered)
    ,@(if grafted?
          '()
          '(("grafted" . #f)))))

(define* (machine->json machine kind lowered #:key (grafted? #t))
  "Return the JSON of MACHINE, whose image is of KIND; LOWERED is what was lowered of
that, GRAFTED? as it is wanted, or #f."
  `(,@(declaration->json machine #:except '(operating-system image libvirt-domain
                                             shared-store? persist ready))
    ,@(object
       ("location" (location->json (virtual-machine-location machine)))
       ("image"    (image->json machine kind lowered grafted?))
       ("domain"   (domain->json machine (image-kind-mount-points kind)))
       ("ready"    (list->vector
                    (map readiness->json (virtual-machine-ready machine)))))))

(define (hypervisors->json deployment)
  "Return the URIs of the hypervisors of all machines of DEPLOYMENT, each once; null stands
for the one of machines that name none."
  (list->vector (map (lambda (uri)
                       (or uri 'null))
                     (delete-duplicates
                      (map virtual-machine-hypervisor
                           (deployment-machines deployment))))))

(define (deployment->json deployment config machines provenance)
  "Return the JSON of DEPLOYMENT, which CONFIG, a name, declares; MACHINES lists the JSON of its
machines, and PROVENANCE is that of what it was evaluated with."
  `(,@(declaration->json deployment #:except '(machines))
    ,@(object
       ("schema"   %schema)
       ("config"   config)
       ("machines" (list->vector machines))
       ("hypervisors" (hypervisors->json deployment))
       ("provenance" provenance))))
