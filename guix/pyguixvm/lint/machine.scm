;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm lint machine)
  #:use-module (pyguixvm diagnostics)
  #:use-module (pyguixvm libvirt)
  #:use-module (pyguixvm lint cautions)
  #:use-module (pyguixvm machine)
  #:use-module (pyguixvm notation)
  #:use-module (pyguixvm sanitizers)
  #:use-module (pyguixvm storage)
  #:use-module (pyguixvm system bootable)
  #:use-module (pyguixvm system guest)
  #:use-module (pyguixvm system image-kinds)
  #:use-module (gnu system)
  #:use-module (gnu system file-systems)
  #:use-module (guix diagnostics)
  #:use-module (ice-9 match)
  #:use-module (srfi srfi-1)
  #:use-module (srfi srfi-26)
  #:export (lowerable?
            validate-machine))

;;; Commentary:
;;;
;;; Rules about several fields of one machine.  Those about a single field are checked
;;; when the record is made.
;;;
;;; Code:

(define (validate-contents machine)
  "Refuse MACHINE unless it has either an operating-system or an image, one that keeps
the rules of its kind."
  (let ((os    (virtual-machine-operating-system machine))
        (image (virtual-machine-image machine)))
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
          (else
           ((image-kind-validate (machine-image-kind machine)) machine)))))

(define (lowerable? machine)
  "Does MACHINE have something to run that keeps the rules?"
  (define (valid? validate)
    (not (refused? (attempt (lambda () (validate machine))
                            (virtual-machine-location machine)))))

  (not (or (refused? (virtual-machine-operating-system machine))
           (refused? (virtual-machine-image machine))
           (not (valid? (lambda (machine)
                          (and=> (machine-operating-system machine)
                                 validate-bootable))))
           (not (valid? validate-contents)))))

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

(define %most-devices
  ;; Each has a PCI bus of its own, and there are 256.
  200)

(define (validate-devices machine)
  "Refuse MACHINE if it has more devices than can be plugged in."
  (let* ((domain (virtual-machine-libvirt-domain machine))
         (devices (append (libvirt-domain-networking domain)
                          (machine-disks machine)
                          (libvirt-domain-mount-points domain))))
    (when (> (length devices) %most-devices)
      (refuse (or (libvirt-domain-place domain 'networking)
                  (libvirt-domain-place domain 'disks)
                  (virtual-machine-location machine))
              (format #f "networking, disks, mount-points: ~a devices are more than a \
machine can have, ~a" (length devices) %most-devices)))))

(define %longest-command-line
  ;; Linux has 2048 bytes on x86-64, cuts off the rest, and Guix names root, system and
  ;; boot script in it.
  1700)

(define (validate-kernel-arguments machine)
  "Refuse MACHINE if the last of its kernel arguments would be cut off."
  (let* ((domain    (virtual-machine-libvirt-domain machine))
         (os        (machine-operating-system machine))
         (arguments (append (if os (operating-system-user-kernel-arguments os) '())
                            (libvirt-domain-kernel-arguments domain)))
         (size      (string-utf8-length
                     (string-join (filter string? arguments)))))
    (when (> size %longest-command-line)
      (refuse (or (libvirt-domain-place domain 'kernel-arguments)
                  (virtual-machine-location machine))
              (format #f "kernel-arguments: ~a bytes are more than Linux takes beside what \
Guix adds, ~a" size %longest-command-line)))))

(define %longest-host-name 64)                    ;HOST_NAME_MAX

(define (validate-host-name machine)
  "Refuse MACHINE if Linux will not have the host name of its operating-system."
  (let ((os (machine-operating-system machine)))
    (when os
      (let ((size (string-utf8-length (operating-system-host-name os))))
        (unless (<= 1 size %longest-host-name)
          (refuse (operating-system-location os)
                  (format #f "host-name: it has ~a bytes, and Linux takes 1 to ~a"
                          size %longest-host-name)))))))

(define %smallest-storage (* 200 (expt 1024 2)))

(define %largest-mbr-disk
  ;; A sector has a number of 32 bits in an MBR, and so has the count of a partition's.
  (* 512 (- (expt 2 32) 1)))

(define (validate-storage machine)
  "Refuse MACHINE if no Guix System fits into its storage, or if its partition table cannot
describe that."
  (let* ((domain  (virtual-machine-libvirt-domain machine))
         (storage (libvirt-domain-storage domain)))
    (when (and (machine-operating-system machine)
               (not (virtual-machine-shared-store? machine))
               (< storage %smallest-storage))
      (refuse (libvirt-domain-place domain 'storage)
              (format #f "storage: no Guix System fits into ~a" (size->string storage))
              #:hint "Small ones take 1G to 2G; what is not written takes no space."))
    ;; What is in an image that is declared as such is not known yet.
    (when (and (virtual-machine-operating-system machine)
               (not (virtual-machine-shared-store? machine))
               (eq? 'bios (libvirt-domain-firmware domain))
               (> storage %largest-mbr-disk))
      (refuse (libvirt-domain-place domain 'storage)
              (format #f "storage: ~a is more than a partition table of type MBR can \
describe, ~a bytes"
                      (size->string storage) %largest-mbr-disk)
              #:hint "Declare at most (storage 2047G); or declare (firmware 'uefi), and \
grub-efi-bootloader in the operating-system, and it has a GPT."))))

(define (efi-bootloader? os)
  (string-prefix? "grub-efi" (bootloader-name-of os)))

(define (validate-firmware machine)
  (and=> (machine-operating-system machine)
         (cut validate-bootloader machine <>)))

(define (validate-bootloader machine os)
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
  "Refuse MACHINE for each rule that it breaks."
  (when (lowerable? machine)
    (for-each (lambda (validate)
                (attempt (lambda () (validate machine))
                         (virtual-machine-location machine)))
              (list validate-name validate-host-name validate-maxima validate-storage
                    validate-kernel-arguments validate-devices caution-system
                    validate-firmware validate-disks validate-mounts validate-mounting
                    caution-network caution-interfaces caution-agent caution-paths
                    caution-menu))))
