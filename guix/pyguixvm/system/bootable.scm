;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm system bootable)
  #:use-module (pyguixvm diagnostics)
  #:use-module (gnu bootloader)
  #:use-module (gnu system)
  #:use-module (gnu system file-systems)
  #:use-module (gnu system mapped-devices)
  #:use-module (gnu system shadow)
  #:use-module (gnu system uuid)
  #:use-module (guix diagnostics)
  #:use-module (ice-9 match)
  #:use-module (srfi srfi-1)
  #:export (bootloader-name-of
            declared-root
            validate-bootable
            caution-devices
            caution-drivers))

;;; Commentary:
;;;
;;; What of an operating-system tells already that it cannot start in a machine.
;;;
;;; Code:

(define (bootloader-name-of os)
  "Return the name of OS's bootloader, as a string."
  (symbol->string (bootloader-name
                   (bootloader-configuration-bootloader
                    (operating-system-bootloader os)))))

(define (declared-root os)
  "Return the root file system of OS, or #f if there is none: 'operating-system-root-file-system'
of (gnu system) would raise an error that says not what to write."
  (find (lambda (fs)
          (string=? "/" (file-system-mount-point fs)))
        (operating-system-file-systems os)))

(define (listing predicate)
  "Return a predicate for lists of what satisfies PREDICATE."
  (lambda (value)
    (and (list? value) (every predicate value))))

(define %fields
  ;; Fields that Guix does not check, their accessors and what they take.  The label is made
  ;; of the kernel by default.
  `((bootloader ,operating-system-bootloader ,bootloader-configuration?
                "a bootloader-configuration")
    (kernel ,operating-system-kernel ,struct? "a package")
    (host-name ,operating-system-host-name ,string? "a string")
    (label ,operating-system-label ,string? "a string")
    (file-systems ,operating-system-file-systems ,(listing file-system?)
                  "a list of 'file-system' records")
    (mapped-devices ,operating-system-mapped-devices ,(listing mapped-device?)
                    "a list of 'mapped-device' records")
    (users ,operating-system-users ,(listing user-account?)
           "a list of 'user-account' records")
    (groups ,operating-system-groups ,(listing user-group?)
            "a list of 'user-group' records")))

(define (validate-fields os)
  "Refuse OS when one of its fields holds what Guix fails with in the middle of its own
code."
  (for-each (match-lambda
              ((field get valid? what)
               (let ((value (get os)))
                 (unless (valid? value)
                   (refuse (operating-system-location os)
                           (format #f "~a: ~a is not ~a" field (describe value) what))))))
            %fields))

(define (validate-bootable os)
  "Refuse OS without a root, with a bootloader that our images do not start with, or with
a field of a wrong type."
  (unless (operating-system? os)                  ;as an image may have it
    (refuse #f (format #f "image: its operating-system is ~a" (describe os))))
  (validate-fields os)
  (unless (declared-root os)
    (refuse (operating-system-location os)
            "operating-system: it has no root file system"
            #:hint "Add (file-system (mount-point \"/\") (device (file-system-label \
\"Guix_image\")) (type \"ext4\")) to its file-systems."))
  (unless (string-prefix? "grub" (bootloader-name-of os))
    (refuse (operating-system-location os)
            (format #f "bootloader: '~a' does not start a virtual machine"
                    (bootloader-name-of os))
            #:hint "Declare (bootloader grub-bootloader), or grub-efi-bootloader with \
(firmware 'uefi).")))

(define (foreign-devices os)
  "Return (LOCATION . NAME) for what OS takes from disks that its image does not have."
  (append
   (filter-map (lambda (fs)
                 (and (uuid? (file-system-device fs))
                      (file-system-mount? fs)
                      (not (member (file-system-mount-point fs) '("/" "/boot/efi")))
                      (cons (source-properties->location (file-system-location fs))
                            (string-append "the file system for "
                                           (file-system-mount-point fs)))))
               (operating-system-file-systems os))
   (filter-map (lambda (mapped)
                 (and (uuid? (mapped-device-source mapped))
                      (cons (source-properties->location
                             (mapped-device-location mapped))
                            "a mapped device")))
               (operating-system-mapped-devices os))
   (filter-map (lambda (swap)
                 (and (swap-space? swap)
                      (uuid? (swap-space-target swap))
                      (cons (operating-system-location os) "a swap space")))
               (operating-system-swap-devices os))))

(define (caution-devices os)
  "Warn of what OS takes from disks by a UUID that no disk of its machine has."
  (for-each (match-lambda
              ((location . name)
               (caution location
                        (format #f "~a is named by a UUID, which no disk of the machine has"
                                name)
                        #:hint "The machine has a root, and what 'disks' declares: leave \
out what another computer needs.")))
            (foreign-devices os)))

(define (caution-drivers os)
  "Warn of OS when its initrd does not find the disk of a virtual machine."
  (unless (member "virtio_blk" (operating-system-initrd-modules os))
    (caution (operating-system-location os)
             "initrd-modules: 'virtio_blk' is missing, by which the root is found"
             #:hint "Keep %base-initrd-modules: (initrd-modules (cons \"…\" \
%base-initrd-modules)).")))
