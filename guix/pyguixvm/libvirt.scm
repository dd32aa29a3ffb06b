;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm libvirt)
  #:use-module (pyguixvm records)
  #:use-module (pyguixvm sanitizers)
  #:use-module (pyguixvm storage)
  #:export (networking
            networking-mac-address
            networking-place

            libvirt-domain
            libvirt-domain?
            %default-libvirt-domain
            libvirt-domain-cpu
            libvirt-domain-maximum-cpu
            libvirt-domain-memory
            libvirt-domain-maximum-memory
            libvirt-domain-networking
            libvirt-domain-mount-points
            libvirt-domain-disks
            libvirt-domain-storage
            libvirt-domain-kernel-arguments
            libvirt-domain-firmware
            libvirt-domain-place))

;;; Commentary:
;;;
;;; The libvirt resources around an operating system: a domain and its interfaces.
;;; Its disks and directories are declared in (pyguixvm storage).
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

(define check-networking
  (check-one-or-each
   (check-instance networking? "a 'networking' record or a list of them")))


;;;
;;; Libvirt domains.
;;;

(define check-cpu
  ;; Libvirt has more only with an IOMMU that remaps interrupts (QEMU_MAX_VCPUS_WITHOUT_EIM
  ;; in its qemu_validate.c), which the domains of machines are without.
  (check-count 255))

;; A field that only goes into the domain's XML takes a clause here, and a line with its
;; place there in Python's 'LibvirtDomain': (pyguixvm evaluator json) tells every field
;; that it does not work out otherwise.
(define-declaration <libvirt-domain> libvirt-domain %libvirt-domain make-libvirt-domain
  libvirt-domain? this-libvirt-domain libvirt-domain-place
  (cpu            libvirt-domain-cpu              ;integer
                  (default 1)
                  (sanitize check-cpu))
  (maximum-cpu    libvirt-domain-maximum-cpu      ;integer
                  (otherwise libvirt-domain-cpu)
                  (sanitize check-cpu))
  (memory         libvirt-domain-memory           ;bytes
                  (default (expt 1024 3))
                  (sanitize check-memory)
                  (written bare-word))
  (maximum-memory libvirt-domain-maximum-memory   ;bytes
                  (otherwise libvirt-domain-memory)
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
                  (sanitize (check-each check-kernel-argument)))
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
  (clock          libvirt-domain-clock            ;'utc | 'localtime
                  (default 'utc)
                  (sanitize (check-choice 'utc 'localtime)))
  (title          libvirt-domain-title            ;string | #f
                  (default #f)
                  (sanitize check-title))
  (description    libvirt-domain-description      ;string | #f
                  (default #f)
                  (sanitize check-description)))

(define %default-libvirt-domain
  ;; Of a machine that declares none.
  (%libvirt-domain))

(define %outside-xml
  (char-set-union char-set:iso-control
                  (char-set (integer->char #xfffe) (integer->char #xffff))))

(define (check-plain-text value field location except)
  "Check text without control characters, which libvirt cannot keep, but for those among
EXCEPT."
  (if (and (string? value)
           (string-any (char-set-difference %outside-xml except) value))
      (refuse-value value field location
                    (if (char-set-contains? except #\newline)
                        "text without control characters"
                        "a single line, without control characters"))
      (check-text value field location)))

(define (check-title value field location)
  ;; libvirt's schema has the title on one line.
  (check-plain-text value field location char-set:empty))

(define (check-description value field location)
  (check-plain-text value field location (char-set #\newline #\tab)))
