;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm machine)
  #:use-module (pyguixvm libvirt)
  #:use-module (pyguixvm notation)
  #:use-module (pyguixvm readiness)
  #:use-module (pyguixvm records)
  #:use-module (pyguixvm sanitizers)
  #:use-module (pyguixvm sanitizers directories)
  #:use-module ((gnu image) #:select (image? image-operating-system))
  #:use-module (gnu system)
  #:use-module ((guix diagnostics) #:select (location-file))
  #:use-module (srfi srfi-1)
  #:use-module (srfi srfi-9)
  #:export (local-image
            local-image?
            local-image-file
            local-image-location
            remote-image
            remote-image?

            virtual-machine
            virtual-machine?
            this-virtual-machine
            virtual-machine-name
            virtual-machine-operating-system
            virtual-machine-image
            virtual-machine-libvirt-domain
            virtual-machine-shared-store?
            virtual-machine-persist
            virtual-machine-ignore-drift
            virtual-machine-ready
            virtual-machine-requires
            virtual-machine-tags
            virtual-machine-hypervisor
            virtual-machine-place
            virtual-machine-location
            machine-operating-system
            machine-guix-image
            machine-interfaces
            machine-of-system
            operating-system->machine
            image->machine

            deployment
            deployment?
            deployment-name
            deployment-machines
            deployment-place
            machines->deployment))

;;; Commentary:
;;;
;;; The records in which virtual machines are declared: a Guix 'operating-system'
;;; and the libvirt resources around it.  What a single field may hold is checked
;;; here; what several fields or machines have to do with each other is checked in
;;; (pyguixvm lint).
;;;
;;; Code:


;;;
;;; Images that exist already.
;;;

(define-record-type <local-image>
  (make-local-image file location)
  local-image?
  (file     local-image-file)                     ;absolute file name
  (location local-image-location))                ;<location> | #f

(define (resolve-file file location)
  "Return FILE, when relative, in the directory of the Scheme file of LOCATION, as
'local-file' does."
  (cond ((string-prefix? "/" file) file)
        (location (string-append (dirname (location-file location)) "/" file))
        (else (string-append (getcwd) "/" file))))

;; The disk image FILE, in the qcow2 or raw format.
(define-located (local-image file) local-image*)

(define (local-image* file location)
  (make-local-image (resolve-file (check-text file 'local-image location)
                                  location)
                    location))

(define %url-rx
  (make-regexp "^https?://[^/]+/.+"))

(define (check-url value field location)
  (if (and (string? value) (regexp-exec %url-rx value))
      (check-line value field location)
      (refuse-value value field location
                    "the URL of a file, \"https://HOST/FILE\"")))

(define %sha256-rx
  (make-regexp "^[0-9a-f]{64}$"))

(define (check-sha256 value field location)
  (if (and (string? value) (regexp-exec %sha256-rx value))
      value
      (refuse-value value field location
                    "a SHA-256 as 'sha256sum' prints it: 64 digits and letters a to f")))

;; The disk image that URL leads to, which has the digest SHA256.
(define-declaration <remote-image> remote-image %remote-image make-remote-image
  remote-image? this-remote-image remote-image-place
  (url            remote-image-url                ;string
                  (sanitize check-url))
  (sha256         remote-image-sha256             ;string, hexadecimal
                  (sanitize check-sha256))
  (format         remote-image-format             ;"qcow2" | "raw"
                  (default "qcow2")
                  (sanitize (check-text-choice "qcow2" "raw"))))


;;;
;;; Virtual machines and deployments.
;;;

(define-declaration <virtual-machine> virtual-machine %virtual-machine make-virtual-machine
  virtual-machine? this-virtual-machine virtual-machine-place
  (name           virtual-machine-name            ;string | #f
                  (otherwise machine-host-name)
                  (sanitize check-machine-name))
  (operating-system virtual-machine-operating-system ;<operating-system> | #f
                  (default #f)
                  (sanitize check-operating-system))
  (image          virtual-machine-image           ;<local-image> | <remote-image> | <image> | #f
                  (default #f)
                  (sanitize check-image))
  (libvirt-domain virtual-machine-libvirt-domain  ;<libvirt-domain>
                  (default %default-libvirt-domain)
                  (sanitize check-libvirt-domain)
                  (written (nested libvirt-domain)))
  (shared-store?  virtual-machine-shared-store?   ;Boolean
                  (default #f)
                  (sanitize check-boolean))
  (persist        virtual-machine-persist         ;list of directories | #f: host keys
                  (default #f)
                  (sanitize check-persist))
  (protect?       virtual-machine-protect?        ;Boolean
                  (default #f)
                  (sanitize check-boolean))
  (ignore-drift   virtual-machine-ignore-drift    ;list of strings, such as "domain.memory"
                  (default '())
                  (sanitize (check-one-or-each check-text)))
  (ready          virtual-machine-ready           ;list of readiness forms
                  (default (list (address)))
                  (sanitize (check-one-or-each check-ready)))
  (ready-timeout  virtual-machine-ready-timeout   ;seconds
                  (default 120)
                  (sanitize check-seconds))
  (requires       virtual-machine-requires        ;list of names of machines
                  (default '())
                  (sanitize (check-one-or-each check-machine-name)))
  (tags           virtual-machine-tags            ;list of strings, such as "web"
                  (default '())
                  (sanitize (check-one-or-each check-tag)))
  (hypervisor     virtual-machine-hypervisor      ;libvirt URI | #f
                  (default #f)
                  (sanitize check-line)))

(define check-seconds
  ;; A week: whoever means longer means something else.
  (check-count (* 7 24 60 60)))

(define check-operating-system
  (check-instance operating-system? "an operating-system"))

(define (any-image? object)
  (or (local-image? object)
      (remote-image? object)
      (image? object)))

(define check-image
  (check-instance any-image? "an image: one that exists, (local-image FILE) or \
(remote-image (url …) (sha256 …)), or one of Guix's 'image' records"))

(define check-libvirt-domain
  (check-instance libvirt-domain? "a libvirt-domain"))

(define check-ready
  (check-instance readiness? "a sign of readiness: (address), (tcp-port PORT), \
(console REGEXP) or (guest-agent)"))

(define (machine-guix-image machine)
  "Return the <image> that was declared for MACHINE, or #f: then Guix makes one of its
operating-system, if it has that."
  (let ((declared (virtual-machine-image machine)))
    (and (image? declared) declared)))

(define (machine-operating-system machine)
  "Return the operating-system of MACHINE, its own or its image's, or #f."
  (or (virtual-machine-operating-system machine)
      (and=> (machine-guix-image machine) image-operating-system)))

(define (machine-host-name machine)
  (and=> (machine-operating-system machine) operating-system-host-name))

(define (virtual-machine-location machine)
  "Return the <location> of MACHINE, or that of its operating-system when it was
not declared but derived from one."
  (or (virtual-machine-place machine #f)
      (and=> (virtual-machine-operating-system machine)
             operating-system-location)))

(define (machine-interfaces machine)
  "Return (NETWORKING MAC-ADDRESS LOCATION) for each interface of MACHINE."
  (let ((networkings (libvirt-domain-networking
                      (virtual-machine-libvirt-domain machine))))
    (map (lambda (networking index)
           (list networking
                 (or (networking-mac-address networking)
                     (derived-mac-address (virtual-machine-name machine) index))
                 (or (networking-place networking 'mac-address)
                     (virtual-machine-location machine))))
         networkings
         (iota (length networkings)))))

(define (machine-of-system machine os)
  "Return MACHINE such that it runs OS."
  (%virtual-machine (inherit machine)
                    (operating-system os)))

(define (operating-system->machine os)
  "Return a machine that runs OS, and whatever else is the default."
  (%virtual-machine (operating-system os)))

(define (image->machine image location)
  "Return a machine that starts from IMAGE, an <image> that was given at LOCATION, and
whatever else is the default."
  (%virtual-machine (image image)
                    (places `((#f . ,location)))))

(define-declaration <deployment> deployment %deployment make-deployment
  deployment? this-deployment deployment-place
  (name           deployment-name                 ;string | #f
                  (default #f)
                  (sanitize check-deployment-name))
  (machines       deployment-machines             ;list of <virtual-machine>
                  (default '())
                  (sanitize (check-each check-virtual-machine))))

(define check-virtual-machine
  (check-instance virtual-machine? "a virtual-machine"))

(define (machines->deployment machines)
  "Return a deployment of MACHINES, which nobody wrote as one."
  (%deployment (machines machines)))
