;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm evaluation)
  #:use-module (pyguixvm configuration)
  #:use-module (pyguixvm derivations)
  #:use-module (pyguixvm disk-image)
  #:use-module (pyguixvm failure)
  #:use-module (pyguixvm guest)
  #:use-module (pyguixvm readiness)
  #:use-module (pyguixvm records)
  #:use-module (pyguixvm refusal)
  #:use-module (pyguixvm shared-store)
  #:use-module (pyguixvm storage)
  #:use-module (pyguixvm validation)
  #:use-module (gnu system)
  #:use-module (guix derivations)
  #:use-module (guix diagnostics)
  #:use-module (guix packages)
  #:use-module (ice-9 match)
  #:use-module (json)
  #:use-module (srfi srfi-1)
  #:use-module (srfi srfi-11)
  #:use-module (srfi srfi-26)
  #:export (%schema
            call-with-configuration-file
            evaluate
            failure->json))

;;; Commentary:
;;;
;;; An evaluation as JSON.  Its other side is pyguixvm/model/deployment.py, which
;;; refuses keys that it does not know; %SCHEMA tells apart versions that do not
;;; understand each other.
;;;
;;; Code:

(define %schema 1)

(define-syntax object
  (syntax-rules ()
    "Return a JSON object with the given KEYs and VALUEs; #f stands for null."
    ((_ (key value) ...)
     (list (cons key (or value 'null)) ...))))


;;;
;;; Parts of a machine.
;;;

(define (location->json location)
  (and location
       (object ("file"   (absolute-source-file (location-file location)))
               ("line"   (location-line location))
               ("column" (location-column location)))))

(define (readiness->json form)
  (cond ((address-ready? form)
         (object ("kind" "address")))
        ((tcp-port-ready? form)
         (object ("kind" "tcp-port")
                 ("port" (tcp-port-ready-port form))))
        ((console-ready? form)
         (object ("kind" "console")
                 ("pattern" (console-ready-pattern form))))
        ((guest-agent-ready? form)
         (object ("kind" "guest-agent")))))

(define interface->json
  (match-lambda
    ((network mac-address _)
     (object ("network"     network)
             ("mac-address" mac-address)))))

(define (disk->json disk)
  (if (block-device? disk)
      (object ("kind"   "block-device")
              ("device" (block-device-file disk)))
      (object ("kind"        "data-disk")
              ("name"        (data-disk-name disk))
              ("size"        (data-disk-size disk))
              ("file-system" (data-disk-file-system disk))
              ("target"      (data-disk-target disk)))))

(define (mount-point->json machine mount)
  `(,@(object
       ("source" (mount-point-source mount))
       ("target" (mount-point-target mount))
       ("tag"    (mount-point-tag mount))
       ("driver" (sharing-driver machine mount)))
    ("read-only" . ,(mount-point-read-only? mount))))

(define (domain->json machine further-mounts)
  "Return the JSON of the domain of MACHINE, to which FURTHER-MOUNTS, a list of
<mount-point>, are shared as well."
  (let ((domain (virtual-machine-libvirt-domain machine)))
    `(,@(object
         ("cpu"              (libvirt-domain-cpu domain))
         ("maximum-cpu"      (libvirt-domain-maximum-cpu domain))
         ("memory"           (libvirt-domain-memory domain))
         ("maximum-memory"   (libvirt-domain-maximum-memory domain))
         ("storage"          (libvirt-domain-storage domain))
         ("networking"       (list->vector
                              (map interface->json
                                   (machine-interfaces machine))))
         ("mount-points"     (list->vector
                              (map (cut mount-point->json machine <>)
                                   (append (libvirt-domain-mount-points domain)
                                           further-mounts))))
         ("disks"            (list->vector
                              (map disk->json (machine-disks machine))))
         ("kernel-arguments" (list->vector
                              (libvirt-domain-kernel-arguments domain)))
         ("pool"             (libvirt-domain-pool domain))
         ("firmware"         (symbol->string (libvirt-domain-firmware domain)))
         ("virtualization"   (symbol->string
                              (libvirt-domain-virtualization domain)))
         ("title"            (libvirt-domain-title domain))
         ("description"      (libvirt-domain-description domain)))
      ("autostart" . ,(libvirt-domain-autostart? domain)))))

(define (local-image->json image)
  (let-values (((format* status) (examine-local-image image)))
    (object ("kind"     "local-image")
            ("path"     (local-image-file image))
            ("format"   (symbol->string format*))
            ("size"     (stat:size status))
            ("modified" (stat:mtime status)))))

(define (kernel-name kernel)
  (if (package? kernel)
      (package-full-name kernel)
      (object->string kernel)))

(define (derivation->json derivation)
  (object ("derivation" (derivation-file-name derivation))
          ("output"     (derivation->output-path derivation))))

(define (image-content->json content)
  (object ("layout"                  (image-content-layout content))
          ("root-uuid"               (image-content-root-uuid content))
          ("system"                  (derivation->json
                                      (image-content-system content)))
          ("boot-configuration"      (derivation->json
                                      (image-content-boot-configuration content)))
          ("boot-configuration-file" (image-content-boot-configuration-file
                                      content))))

(define (system-image->json machine derivations)
  "Return the JSON of the image of MACHINE; DERIVATIONS lists its image derivation,
its system derivation and the content of its image, or #f where they were not
computed."
  (match derivations
    ((image system content)
     (let ((os (effective-operating-system machine)))
       (object ("kind"             "system")
               ("host-name"        (operating-system-host-name os))
               ("label"            (operating-system-label os))
               ("kernel"           (kernel-name (operating-system-kernel os)))
               ("image-type"       (and=> (image-type-name machine) symbol->string))
               ("root-file-system" (machine-root-file-system machine))
               ("derivation"       (and=> image derivation-file-name))
               ("output"           (and=> image derivation->output-path))
               ("system"           (and=> system derivation-file-name))
               ("content"          (and=> content image-content->json)))))))

(define (shared-store->json machine system)
  "Return the JSON of MACHINE's operating-system, run from the store of its host;
SYSTEM is its <shared-system>, or #f if that was not computed."
  (let ((os (effective-operating-system machine)))
    (object ("kind"       "shared-store")
            ("host-name"  (operating-system-host-name os))
            ("label"      (operating-system-label os))
            ("kernel"     (kernel-name (operating-system-kernel os)))
            ("root-label" %root-label)
            ("system"     (and=> system
                                 (lambda (system)
                                   (derivation->json
                                    (shared-system-derivation system)))))
            ("boot"       (and=> system
                                 (lambda (system)
                                   (object
                                    ("kernel"    (shared-system-kernel system))
                                    ("initrd"    (shared-system-initrd system))
                                    ("arguments" (list->vector
                                                  (shared-system-arguments
                                                   system))))))))))

(define (machine->json machine derivations shared-store?)
  "Return the JSON of MACHINE; DERIVATIONS is what 'lower' returned for it."
  `(,@(object
       ("name"          (virtual-machine-name machine))
       ("location"      (location->json (virtual-machine-location machine)))
       ("image"         (match (virtual-machine-image machine)
                          ((? local-image? image) (local-image->json image))
                          (_ (if shared-store?
                                 (shared-store->json machine derivations)
                                 (system-image->json machine derivations)))))
       ("domain"        (domain->json machine
                                      (if (and shared-store?
                                               (machine-operating-system machine))
                                          (list %store-mount-point)
                                          '())))
       ("ready"         (list->vector
                         (map readiness->json
                              (virtual-machine-ready machine))))
       ("ready-timeout" (virtual-machine-ready-timeout machine))
       ("hypervisor"    (virtual-machine-hypervisor machine)))
    ("protect" . ,(virtual-machine-protect? machine))))


;;;
;;; Evaluation.
;;;

(define (nothing-lowered shared-store?)
  (if shared-store? #f '(#f #f #f)))

(define (lower store machine want shared-store?)
  "Return the image and system derivations of MACHINE, and the content of its image, as
far as WANT asks for them; with SHARED-STORE?, instead, its <shared-system>."
  (if shared-store?
      (run-with-guix store (machine-shared-system machine))
      (list (and (memq want '(derivations images))
                 (run-with-guix store (machine-image-derivation machine)))
            (and (memq want '(systems images))
                 (run-with-guix store (machine-system-derivation machine)))
            (and (memq want '(images))
                 (run-with-guix store (machine-image-content machine))))))

(define (machines->json file machines want shared-store? prepare)
  "Return the JSON of each of MACHINES, or a failure."
  (define (describe machine derivations)
    (call-with-failure-handling file
      (lambda ()
        (machine->json machine (derivations) shared-store?))
      #:location (virtual-machine-location machine)))

  (define (describe-all derivations)
    (map (lambda (machine)
           (describe machine
                     (lambda ()
                       (if (machine-operating-system machine)
                           (derivations machine)
                           (nothing-lowered shared-store?)))))
         machines))

  (if (or (eq? want 'metadata)
          (not (any machine-operating-system machines)))
      (describe-all (const (nothing-lowered shared-store?)))
      (call-with-guix
       (lambda (store)
         (prepare store)
         (describe-all (lambda (machine)
                         (lower store machine want shared-store?)))))))

(define (call-with-configuration-file config proc)
  "Call PROC with the absolute name of the file CONFIG and return its value, or a failure."
  (let ((file (call-with-failure-handling config
                (lambda ()
                  (configuration-file-name config)))))
    (if (failure? file)
        file
        (call-with-failure-handling file
          (lambda ()
            (proc file))))))

(define* (evaluate config #:key (want 'metadata) names shared-store?
                   (prepare (const #t)))
  "Return as JSON what the file CONFIG declares, or the error in it.  WANT is one of
'metadata, which computes no derivation; 'systems, which adds those of the
operating systems, and builds nothing; 'derivations, which adds those of the disk
images; and 'images, which adds both, and the content of the images.  With
SHARED-STORE?, machines with an operating-system run from the store of their host, and
have no image.  NAMES restricts the result to the machines with one of them, unless it
is #f.  PREPARE is called with a connection to the store before it is used."
  (define (deployment->json file)
    (let* ((deployment (load-configuration file))
           (machines   (select-machines (deployment-machines deployment) names))
           (results    (machines->json file machines want shared-store?
                                       prepare)))
      (or (find failure? results)
          (object ("schema"   %schema)
                  ("config"   file)
                  ("name"     (deployment-name deployment))
                  ("machines" (list->vector results))))))

  (let ((result (call-with-configuration-file config deployment->json)))
    (if (failure? result)
        (failure->json result)
        (object ("deployment" result)))))

(define (failure->json failure)
  "Return the JSON of FAILURE."
  (object ("error"
           (object ("kind"     (symbol->string (failure-kind failure)))
                   ("message"  (failure-message failure))
                   ("hint"     (failure-hint failure))
                   ("location" (location->json (failure-location failure)))))))
