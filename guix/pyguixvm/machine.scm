;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm machine)
  #:use-module (pyguixvm sanitizers)
  #:use-module (pyguixvm records)
  #:use-module (pyguixvm readiness)
  #:use-module (pyguixvm storage)
  #:use-module ((gnu image) #:select (image? image-operating-system))
  #:use-module (gnu system)
  #:use-module ((guix diagnostics) #:select (location-file))
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
;;; Networking.
;;;

(define-declaration <networking> networking %networking make-networking
  networking? this-networking networking-place
  (network        networking-network              ;name of a libvirt network
                  (default "default")
                  (sanitize check-label))
  (mac-address    networking-mac-address          ;string | #f: from the name
                  (default #f)
                  (sanitize check-mac-address)
                  (written bare-word))
  (later address))

(define (check-networking value field location)
  (define allowed
    (check-instance networking? "a 'networking' record or a list of them"))

  (if (list? value)
      ((check-each allowed) value field location)
      (list (allowed value field location))))


;;;
;;; Libvirt domains.
;;;

(define-declaration <libvirt-domain> libvirt-domain %libvirt-domain make-libvirt-domain
  libvirt-domain? this-libvirt-domain libvirt-domain-place
  (cpu            libvirt-domain-cpu              ;integer
                  (default 1)
                  (sanitize check-positive))
  (maximum-cpu    libvirt-domain-maximum-cpu      ;integer
                  (thunked)
                  (default (libvirt-domain-cpu this-libvirt-domain))
                  (sanitize check-positive))
  (memory         libvirt-domain-memory           ;bytes
                  (default (expt 1024 3))
                  (sanitize check-memory)
                  (written bare-word))
  (maximum-memory libvirt-domain-maximum-memory   ;bytes
                  (thunked)
                  (default (libvirt-domain-memory this-libvirt-domain))
                  (sanitize check-memory)
                  (written bare-word))
  (storage        libvirt-domain-storage          ;bytes
                  (default (* 10 (expt 1024 3)))
                  (sanitize check-size)
                  (written bare-word))
  (networking     libvirt-domain-networking       ;list of <networking>
                  (default (list (%networking)))
                  (sanitize check-networking)
                  (written (nested networking)))
  (mount-points   libvirt-domain-mount-points     ;list of <mount-point>
                  (default '())
                  (sanitize check-mount-points)
                  (written (names mount-point?)))
  (disks          libvirt-domain-disks            ;list of <data-disk>, <block-device>
                  (default '())
                  (sanitize check-disks))
  (kernel-arguments libvirt-domain-kernel-arguments ;list of strings
                  (default '())
                  (sanitize (check-each check-text)))
  (autostart?     libvirt-domain-autostart?       ;Boolean
                  (default #t)
                  (sanitize check-boolean))
  (pool           libvirt-domain-pool             ;name of a storage pool
                  (default "default")
                  (sanitize check-label))
  (firmware       libvirt-domain-firmware         ;'bios | 'uefi
                  (default 'bios)
                  (sanitize (check-choice 'bios 'uefi)))
  (virtualization libvirt-domain-virtualization   ;'auto | 'kvm | 'qemu
                  (default 'auto)
                  (sanitize (check-choice 'auto 'kvm 'qemu)))
  (title          libvirt-domain-title            ;string | #f
                  (default #f)
                  (sanitize check-title))
  (description    libvirt-domain-description      ;string | #f
                  (default #f)
                  (sanitize check-text)))

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

(define-declaration <virtual-machine> virtual-machine %virtual-machine make-virtual-machine
  virtual-machine? this-virtual-machine virtual-machine-place
  (name           virtual-machine-name            ;string | #f
                  (thunked)
                  (default
                    (and=> (machine-operating-system this-virtual-machine)
                           operating-system-host-name))
                  (sanitize check-machine-name))
  (operating-system virtual-machine-operating-system ;<operating-system> | #f
                  (default #f)
                  (sanitize check-operating-system))
  (image          virtual-machine-image           ;<local-image> | <image> | #f
                  (default #f)
                  (sanitize check-image))
  (libvirt-domain virtual-machine-libvirt-domain  ;<libvirt-domain>
                  (default (%libvirt-domain))
                  (sanitize check-libvirt-domain)
                  (written (nested libvirt-domain)))
  (persist        virtual-machine-persist         ;list of directories | #f: host keys
                  (default #f)
                  (sanitize check-persist))
  (protect?       virtual-machine-protect?        ;Boolean
                  (default #f)
                  (sanitize check-boolean))
  (ready          virtual-machine-ready           ;list of readiness forms
                  (default (list (address)))
                  (sanitize (check-each check-ready)))
  (ready-timeout  virtual-machine-ready-timeout   ;seconds
                  (default 120)
                  (sanitize check-positive))
  (hypervisor     virtual-machine-hypervisor      ;libvirt URI | #f
                  (default #f)
                  (sanitize check-text)))

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

(define-declaration <deployment> deployment %deployment make-deployment
  deployment? this-deployment deployment-place
  (machines       deployment-machines             ;list of <virtual-machine>
                  (default '())
                  (sanitize (check-each check-virtual-machine))))

(define check-virtual-machine
  (check-instance virtual-machine? "a virtual-machine"))

(define (machines->deployment machines)
  "Return a deployment of MACHINES, which nobody wrote as one."
  (%deployment (machines machines)))
