;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm lint)
  #:use-module (pyguixvm sanitizers)
  #:use-module (pyguixvm system local-image)
  #:use-module (pyguixvm notation)
  #:use-module (pyguixvm system guest)
  #:use-module (pyguixvm libvirt)
  #:use-module (pyguixvm machine)
  #:use-module (pyguixvm diagnostics)
  #:use-module (pyguixvm storage)
  #:use-module (gnu bootloader)
  #:use-module (gnu image)
  #:use-module (gnu system)
  #:use-module (gnu system file-systems)
  #:use-module (guix diagnostics)
  #:use-module (ice-9 match)
  #:use-module (srfi srfi-1)
  #:use-module (srfi srfi-26)
  #:export (object->deployment
            validate-deployment
            select-machines
            machine-interfaces
            virtual-machine-location))

;;; Commentary:
;;;
;;; Rules about several fields or several machines.  Those about a single field
;;; are checked when the record is made.
;;;
;;; Code:


;;;
;;; What the file's last expression may be.
;;;

(define (object->machine object location)
  "Return OBJECT as a <virtual-machine>; a bare operating-system gets the defaults."
  (cond ((virtual-machine? object) object)
        ((operating-system? object)
         (operating-system->machine object))
        (else
         (refuse location
                 (format #f "~a is no virtual-machine" (describe object))))))

(define (object->deployment object location)
  "Return OBJECT, what the last expression of a configuration gave at LOCATION, as
a <deployment>."
  (match object
    ((? deployment?) object)
    ((or (? virtual-machine?) (? operating-system?))
     (machines->deployment (list (object->machine object location))))
    (()
     (refuse location "the last expression is an empty list of machines"
             #:hint "End the file with at least one virtual-machine."))
    ((? list?)
     (machines->deployment (map (cut object->machine <> location) object)))
    (_
     (refuse location
             (if (unspecified? object)
                 "the last expression gives nothing"
                 (string-append "the last expression gives " (describe object)))
             #:hint "End the file with a virtual-machine, a list of them, \
a deployment, or an operating-system."))))


;;;
;;; One machine.
;;;

(define (virtual-machine-location machine)
  "Return the <location> of MACHINE, or that of its operating-system when it was
not declared but derived from one."
  (or (virtual-machine-place machine #f)
      (and=> (virtual-machine-operating-system machine)
             operating-system-location)))

(define (validate-contents machine)
  "Refuse MACHINE unless it has either an operating-system or an image."
  (let ((os     (virtual-machine-operating-system machine))
        (image  (virtual-machine-image machine))
        (domain (virtual-machine-libvirt-domain machine)))
    (cond ((and os image)
           (refuse (virtual-machine-place machine 'image)
                   "virtual-machine: both 'operating-system' and 'image' are given"
                   #:hint "Keep the one that the machine is to run."))
          ((not (or os image))
           (refuse (virtual-machine-place machine #f)
                   "virtual-machine: neither 'operating-system' nor 'image' is \
given"
                   #:hint "Add (operating-system …) or (image (local-image \
\"FILE\"))."))
          ((image? image)
           (validate-guix-image machine image))
          (image
           (examine-local-image image)
           (unless (null? (libvirt-domain-kernel-arguments domain))
             (refuse (libvirt-domain-place domain 'kernel-arguments)
                     "kernel-arguments: they cannot be added to an image that \
exists already"))))))

(define (validate-guix-image machine image)
  "Refuse MACHINE if IMAGE, its <image>, is none that it could start from or grow."
  (define root (image-root-partition image))

  (define (refuse-image message hint)
    (refuse (virtual-machine-place machine 'image) message #:hint hint))

  (unless (operating-system? (image-operating-system image))
    (refuse-image "image: it has no operating-system"
                  "Add (operating-system …) to the 'image'."))
  (unless (eq? 'disk-image (image-format image))
    (refuse-image (format #f "image: its format is '~a', not 'disk-image'"
                          (image-format image))
                  "Inherit from mbr-hybrid-disk-image or efi-disk-image."))
  (unless root
    (refuse-image "image: none of its partitions is the root"
                  "Add (flags '(boot)) to the one that is."))
  (unless (eq? root (last (image-partitions image)))
    (refuse-image "image: its root is not the last of its partitions, and could not grow"
                  "List it last."))
  (let ((type (partition-file-system root)))
    (unless (member type '("ext4" "btrfs"))
      (refuse-image (format #f "image: a root of type '~a' is not supported yet" type)
                    "It may be \"ext4\" or \"btrfs\"."))
    (when (and (string=? "btrfs" type)
               (not (eq? 'uefi (libvirt-domain-firmware
                                (virtual-machine-libvirt-domain machine)))))
      ;; 'install-grub-disk-image' in (gnu bootloader grub).
      (refuse-image "image: Guix makes no image that starts from btrfs with the \
firmware 'bios"
                    "Add (firmware 'uefi) to the libvirt-domain."))))

(define (validate-name machine)
  (let ((name (virtual-machine-name machine)))
    (if name
        (check-machine-name name 'name (virtual-machine-location machine))
        (refuse (virtual-machine-place machine #f)
                "virtual-machine: a machine with an image needs a name"
                #:hint "Add (name \"NAME\")."))))

(define (validate-maxima machine)
  (let ((domain (virtual-machine-libvirt-domain machine)))
    (define (check field current maximum written)
      (when (< maximum current)
        (refuse (libvirt-domain-place domain field)
                (format #f "~a: ~a is less than what the machine starts with, ~a"
                        field (written maximum) (written current)))))

    (check 'maximum-cpu (libvirt-domain-cpu domain)
           (libvirt-domain-maximum-cpu domain) number->string)
    (check 'maximum-memory (libvirt-domain-memory domain)
           (libvirt-domain-maximum-memory domain) size->string)))

(define (root-file-system os)
  (find (lambda (fs)
          (string=? "/" (file-system-mount-point fs)))
        (operating-system-file-systems os)))

(define (validate-root machine os)
  ;; Guix makes the root of an image from an operating-system ext4, whatever the
  ;; declaration says: (gnu system image).
  (let ((root (root-file-system os)))
    (when (and root (string=? "btrfs" (file-system-type root)))
      (refuse (or (source-properties->location (file-system-location root))
                  (virtual-machine-place machine 'operating-system))
              "file-systems: of an operating-system, Guix makes an image with an \
ext4 root, not btrfs"
              #:hint "Declare \"/\" with the type \"ext4\", or give the machine \
an 'image' whose root partition is btrfs instead of the operating-system."))))

(define (efi-bootloader? os)
  (string-prefix? "grub-efi"
                  (symbol->string
                   (bootloader-name
                    (bootloader-configuration-bootloader
                     (operating-system-bootloader os))))))

(define (validate-firmware machine os)
  ;; Guix would notice only while it builds the image, if at all.
  (let* ((domain   (virtual-machine-libvirt-domain machine))
         (location (or (libvirt-domain-place domain 'firmware)
                       (virtual-machine-location machine))))
    (match (libvirt-domain-firmware domain)
      ('uefi
       (unless (efi-bootloader? os)
         (refuse location
                 "firmware: 'uefi needs a bootloader for EFI"
                 #:hint "Declare (bootloader grub-efi-bootloader) in the \
operating-system.")))
      ('bios
       (when (efi-bootloader? os)
         (refuse location
                 "firmware: 'bios cannot start a bootloader for EFI"
                 #:hint "Add (firmware 'uefi) to the libvirt-domain, or declare \
(bootloader grub-bootloader) in the operating-system."))))))

(define (disk-identity disk)
  (if (block-device? disk)
      (block-device-file disk)
      (data-disk-name disk)))

(define (disk-location disk)
  (if (block-device? disk)
      (block-device-location disk)
      (data-disk-place disk 'name)))

(define (validate-disks machine)
  (refuse-repeated (map (lambda (disk)
                          (cons (disk-identity disk) (disk-location disk)))
                        (machine-disks machine))
                   (cut format #f "disks: '~a' is the name of two disks" <>)))

(define (validate-mounts machine)
  (for-each (lambda (mount)
              (when (and (mount-point-read-only? mount)
                         (equal? "virtiofs" (mount-point-driver mount)))
                (refuse (mount-point-place mount 'driver)
                        "driver: \"virtiofs\" cannot share a directory read-only"
                        #:hint "Leave the driver out, or declare (driver \"9p\").")))
            (libvirt-domain-mount-points (virtual-machine-libvirt-domain machine)))
  (refuse-repeated (map (lambda (mount)
                          (cons (mount-point-tag mount)
                                (mount-point-place mount 'tag)))
                        (libvirt-domain-mount-points
                         (virtual-machine-libvirt-domain machine)))
                   (cut format #f "tag: '~a' is the tag of two mount-points" <>)))

(define (machine-targets machine)
  "Return (DIRECTORY . LOCATION) for all that is mounted in the guest of MACHINE at the
request of its domain."
  (append (filter-map (lambda (disk)
                        (and (data-disk? disk)
                             (data-disk-target disk)
                             (cons (data-disk-target disk)
                                   (or (data-disk-place disk 'target)
                                       (virtual-machine-place machine 'persist)
                                       (virtual-machine-location machine)))))
                      (machine-disks machine))
          (filter-map (lambda (mount)
                        (and (mount-point-target mount)
                             (cons (mount-point-target mount)
                                   (mount-point-place mount 'target))))
                      (libvirt-domain-mount-points
                       (virtual-machine-libvirt-domain machine)))))

(define (validate-mounting machine)
  "Refuse MACHINE if it mounts two things in one place, or has nothing to mount them."
  (define targets
    (machine-targets machine))

  (match (machine-operating-system machine)
    (#f
     (match targets
       (() #t)
       (((target . location) _ ...)
        (refuse location
                (format #f "target: nothing can be mounted at ~a in an image that \
exists already" target)
                #:hint "Leave 'target' and 'persist' out, and mount it in the guest."))))
    (os
     (refuse-repeated
      (append (map (lambda (fs)
                     (cons (file-system-mount-point fs)
                           (source-properties->location (file-system-location fs))))
                   (filter (lambda (fs)
                             (assoc (file-system-mount-point fs) targets))
                           (operating-system-file-systems os)))
              targets
              (map (lambda (directory)
                     (cons directory
                           (or (virtual-machine-place machine 'persist)
                               (virtual-machine-location machine))))
                   (machine-persist machine)))
      (cut format #f "target: two things are to be mounted at ~a" <>)))))

(define (validate-machine machine)
  (validate-contents machine)
  (validate-name machine)
  (validate-maxima machine)
  (and=> (virtual-machine-operating-system machine)
         (cut validate-root machine <>))
  (and=> (machine-operating-system machine)
         (cut validate-firmware machine <>))
  (validate-disks machine)
  (validate-mounts machine)
  (validate-mounting machine))


;;;
;;; Several machines.
;;;

(define (machine-interfaces machine)
  "Return (NETWORK MAC-ADDRESS LOCATION) for each interface of MACHINE."
  (let ((networkings (libvirt-domain-networking
                      (virtual-machine-libvirt-domain machine))))
    (map (lambda (networking index)
           (list (networking-network networking)
                 (or (networking-mac-address networking)
                     (derived-mac-address (virtual-machine-name machine) index))
                 (or (networking-place networking 'mac-address)
                     (virtual-machine-location machine))))
         networkings
         (iota (length networkings)))))

(define (refuse-repeated items describe)
  "Refuse the first among ITEMS, (VALUE . LOCATION) pairs, whose VALUE occurred
before.  DESCRIBE makes a sentence of that VALUE."
  (let loop ((items items)
             (seen '()))
    (match items
      (() #t)
      (((value . location) rest ...)
       (match (assoc value seen)
         (#f
          (loop rest (alist-cons value location seen)))
         ((_ . earlier)
          (refuse location
                  (string-append (describe value)
                                 (if (and earlier (not (equal? earlier location)))
                                     (string-append ", first at "
                                                    (location->string earlier))
                                     "")))))))))

(define (validate-names machines)
  (refuse-repeated (map (lambda (machine)
                          (cons (virtual-machine-name machine)
                                (or (virtual-machine-place machine 'name)
                                    (virtual-machine-location machine))))
                        machines)
                   (cut format #f "name: '~a' is the name of two machines" <>)))

(define (validate-mac-addresses machines)
  ;; Machines of two hypervisors may be on networks that never meet.
  (refuse-repeated (append-map
                    (lambda (machine)
                      (map (match-lambda
                             ((_ mac-address location)
                              (cons (list (virtual-machine-hypervisor machine)
                                          mac-address)
                                    location)))
                           (machine-interfaces machine)))
                    machines)
                   (match-lambda
                     ((_ mac-address)
                      (format #f "mac-address: ~a is the address of two interfaces"
                              mac-address)))))

(define (validate-deployment deployment)
  "Refuse DEPLOYMENT if it breaks a rule; return it otherwise."
  (let ((machines (deployment-machines deployment)))
    (when (null? machines)
      (refuse (deployment-place deployment 'machines)
              "machines: the list is empty"))
    (for-each validate-machine machines)
    (validate-names machines)
    (validate-mac-addresses machines)
    deployment))

(define (select-machines machines names)
  "Return those of MACHINES that are called one of NAMES, a list, or all when NAMES
is #f."
  (define known
    (map virtual-machine-name machines))

  (if (not names)
      machines
      (match (lset-difference string=? names known)
        (()
         (filter (lambda (machine)
                   (member (virtual-machine-name machine) names))
                 machines))
        ((unknown _ ...)
         (refuse #f
                 (format #f "there is no machine '~a'; the configuration declares \
~{~a~^, ~}" unknown known))))))
