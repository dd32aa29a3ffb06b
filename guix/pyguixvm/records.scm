;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm records)
  #:use-module (pyguixvm checks)
  #:use-module (pyguixvm declaration)
  #:use-module (pyguixvm readiness)
  #:use-module (pyguixvm storage)
  #:use-module ((gnu image) #:select (image? image-operating-system))
  #:use-module (gnu system)
  #:use-module ((guix diagnostics) #:select (location-file))
  #:use-module (guix records)
  #:use-module (srfi srfi-9)
  #:export (networking
            networking?
            networking-network
            networking-mac-address
            networking-place

            libvirt-domain
            libvirt-domain?
            libvirt-domain-cpu
            libvirt-domain-maximum-cpu
            libvirt-domain-memory
            libvirt-domain-maximum-memory
            libvirt-domain-storage
            libvirt-domain-networking
            libvirt-domain-mount-points
            libvirt-domain-disks
            libvirt-domain-kernel-arguments
            libvirt-domain-autostart?
            libvirt-domain-pool
            libvirt-domain-firmware
            libvirt-domain-virtualization
            libvirt-domain-title
            libvirt-domain-description
            libvirt-domain-place

            local-image
            local-image?
            local-image-file
            local-image-location
            remote-image

            virtual-machine
            virtual-machine?
            this-virtual-machine
            virtual-machine-name
            virtual-machine-operating-system
            virtual-machine-image
            virtual-machine-libvirt-domain
            virtual-machine-persist
            virtual-machine-protect?
            virtual-machine-ready
            virtual-machine-ready-timeout
            virtual-machine-hypervisor
            virtual-machine-place
            machine-operating-system
            machine-guix-image
            operating-system->machine

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
;;; (pyguixvm validation).
;;;
;;; Code:


;;;
;;; Networking.
;;;

(define-record-type* <networking> %networking make-networking
  networking?
  (network        networking-network              ;name of a libvirt network
                  (default "default"))
  (mac-address    networking-mac-address          ;string | #f: from the name
                  (default #f))
  (places         networking-places               ;field -> <location>
                  (innate) (default '())))

(define-declaration networking %networking networking?
  (fields (network     check-label       #f)
          (mac-address check-mac-address bare-word))
  (later address))

(define (networking-place networking field)
  "Return the <location> of FIELD, or else of NETWORKING, or #f."
  (place-of (networking-places networking) field))

(define (check-networking value field location)
  (define allowed
    (check-instance networking? "a 'networking' record or a list of them"))

  (if (list? value)
      ((check-each allowed) value field location)
      (list (allowed value field location))))


;;;
;;; Libvirt domains.
;;;

(define-record-type* <libvirt-domain> %libvirt-domain make-libvirt-domain
  libvirt-domain? this-libvirt-domain
  (cpu            libvirt-domain-cpu              ;integer
                  (default 1))
  (maximum-cpu    libvirt-domain-maximum-cpu      ;integer
                  (thunked)
                  (default (libvirt-domain-cpu this-libvirt-domain)))
  (memory         libvirt-domain-memory           ;bytes
                  (default (expt 1024 3)))
  (maximum-memory libvirt-domain-maximum-memory   ;bytes
                  (thunked)
                  (default (libvirt-domain-memory this-libvirt-domain)))
  (storage        libvirt-domain-storage          ;bytes
                  (default (* 10 (expt 1024 3))))
  (networking     libvirt-domain-networking       ;list of <networking>
                  (default (list (%networking))))
  (mount-points   libvirt-domain-mount-points     ;list of <mount-point>
                  (default '()))
  (disks          libvirt-domain-disks            ;list of <data-disk>, <block-device>
                  (default '()))
  (kernel-arguments libvirt-domain-kernel-arguments ;list of strings
                  (default '()))
  (autostart?     libvirt-domain-autostart?       ;Boolean
                  (default #t))
  (pool           libvirt-domain-pool             ;name of a storage pool
                  (default "default"))
  (firmware       libvirt-domain-firmware         ;'bios | 'uefi
                  (default 'bios))
  (virtualization libvirt-domain-virtualization   ;'auto | 'kvm | 'qemu
                  (default 'auto))
  (title          libvirt-domain-title            ;string | #f
                  (default #f))
  (description    libvirt-domain-description      ;string | #f
                  (default #f))
  (places         libvirt-domain-places           ;field -> <location>
                  (innate) (default '())))

(define-declaration libvirt-domain %libvirt-domain libvirt-domain?
  (fields (cpu              check-positive                     #f)
          (maximum-cpu      check-positive                     #f)
          (memory           check-memory                       bare-word)
          (maximum-memory   check-memory                       bare-word)
          (storage          check-size                         bare-word)
          (networking       check-networking                   (nested networking))
          (mount-points     check-mount-points                 (names mount-point?))
          (disks            check-disks                        #f)
          (kernel-arguments (check-each check-text)            #f)
          (autostart?       check-boolean                      #f)
          (pool             check-label                        #f)
          (firmware         (check-choice 'bios 'uefi)         #f)
          (virtualization   (check-choice 'auto 'kvm 'qemu)    #f)
          (title            check-title                        #f)
          (description      check-text                         #f))
  (later))

(define (libvirt-domain-place domain field)
  "Return the <location> of FIELD, or else of DOMAIN, or #f."
  (place-of (libvirt-domain-places domain) field))

(define (check-title value field location)
  ;; libvirt's schema has the title on one line.
  (if (and (string? value) (string-index value #\newline))
      (refuse-value value field location "a single line")
      (check-text value field location)))


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

(define-syntax remote-image
  (lambda (form)
    (refuse-later form "remote-image")))


;;;
;;; Virtual machines and deployments.
;;;

(define-record-type* <virtual-machine> %virtual-machine make-virtual-machine
  virtual-machine? this-virtual-machine
  (name           virtual-machine-name            ;string | #f
                  (thunked)
                  (default
                    (and=> (machine-operating-system this-virtual-machine)
                           operating-system-host-name)))
  (operating-system virtual-machine-operating-system ;<operating-system> | #f
                  (default #f))
  (image          virtual-machine-image           ;<local-image> | <image> | #f
                  (default #f))
  (libvirt-domain virtual-machine-libvirt-domain  ;<libvirt-domain>
                  (default (%libvirt-domain)))
  (persist        virtual-machine-persist         ;list of directories | #f: host keys
                  (default #f))
  (protect?       virtual-machine-protect?        ;Boolean
                  (default #f))
  (ready          virtual-machine-ready           ;list of readiness forms
                  (default (list (address))))
  (ready-timeout  virtual-machine-ready-timeout   ;seconds
                  (default 120))
  (hypervisor     virtual-machine-hypervisor      ;libvirt URI | #f
                  (default #f))
  (places         virtual-machine-places          ;field -> <location>
                  (innate) (default '())))

(define-declaration virtual-machine %virtual-machine virtual-machine?
  (fields (name             check-machine-name         #f)
          (operating-system check-operating-system     #f)
          (image            check-image                #f)
          (libvirt-domain   check-libvirt-domain       (nested libvirt-domain))
          (persist          check-persist              #f)
          (protect?         check-boolean              #f)
          (ready            (check-each check-ready)   #f)
          (ready-timeout    check-positive             #f)
          (hypervisor       check-text                 #f))
  (later))

(define check-operating-system
  (check-instance operating-system? "an operating-system"))

(define (image-or-local-image? object)
  (or (local-image? object)
      (image? object)))

(define check-image
  (check-instance image-or-local-image? "an image: one that exists, (local-image \
FILE), or one of Guix's 'image' records"))

(define check-libvirt-domain
  (check-instance libvirt-domain? "a libvirt-domain"))

(define check-ready
  (check-instance readiness? "a sign of readiness: (address), (tcp-port PORT), \
(console REGEXP) or (guest-agent)"))

(define (virtual-machine-place machine field)
  "Return the <location> of FIELD, or else of MACHINE, or #f."
  (place-of (virtual-machine-places machine) field))

(define (machine-guix-image machine)
  "Return the <image> that was declared for MACHINE, or #f: then Guix makes one of its
operating-system, if it has that."
  (let ((declared (virtual-machine-image machine)))
    (and (image? declared) declared)))

(define (machine-operating-system machine)
  "Return the operating-system of MACHINE, its own or its image's, or #f."
  (or (virtual-machine-operating-system machine)
      (and=> (machine-guix-image machine) image-operating-system)))

(define (operating-system->machine os)
  "Return a machine that runs OS, and whatever else is the default."
  (%virtual-machine (operating-system os)))

(define-record-type* <deployment> %deployment make-deployment
  deployment?
  (name           deployment-name                 ;string | #f
                  (default #f))
  (machines       deployment-machines             ;list of <virtual-machine>
                  (default '()))
  (places         deployment-places               ;field -> <location>
                  (innate) (default '())))

(define-declaration deployment %deployment deployment?
  (fields (name     check-deployment-name              #f)
          (machines (check-each check-virtual-machine) #f))
  (later))

(define check-virtual-machine
  (check-instance virtual-machine? "a virtual-machine"))

(define (deployment-place deployment field)
  "Return the <location> of FIELD, or else of DEPLOYMENT, or #f."
  (place-of (deployment-places deployment) field))

(define (machines->deployment machines)
  "Return a deployment of MACHINES, which nobody wrote as one."
  (%deployment (machines machines)))
