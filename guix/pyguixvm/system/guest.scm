;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm system guest)
  #:use-module (pyguixvm libvirt)
  #:use-module (pyguixvm machine)
  #:use-module (pyguixvm services storage)
  #:use-module (pyguixvm storage)
  #:use-module (gnu services)
  #:use-module (gnu system)
  #:use-module (gnu system file-systems)
  #:use-module (srfi srfi-1)
  #:export (%sharing
            effective-operating-system
            sharing-driver
            machine-disks
            machine-persist))

;;; Commentary:
;;;
;;; What a machine's operating-system gets beside what its user wrote: kernel
;;; arguments, file systems of disks and of the host's directories, what keeps
;;; directories over a new root, and what grows with its disk.  A machine that
;;; declares none of these has its operating-system as it is.
;;;
;;; Code:


;;;
;;; Disks.
;;;

(define %host-keys
  ;; Names of service types -> where their ssh host keys are.
  '((openssh  . "/etc/ssh")
    (dropbear . "/etc/dropbear")
    (lsh      . "/etc/lsh")))

(define %dhcp-identities
  ;; Names of service types -> where they keep as whom they ask for an address.  Others
  ;; go by the MAC address.
  '((dhcpcd . "/var/db/dhcpcd")))

(define (directories-of os known)
  "Return the directories that KNOWN has for services of OS."
  (filter-map (lambda (service)
                (assq-ref known (service-type-name (service-kind service))))
              (operating-system-user-services os)))

(define (identity-directories os)
  "Return the directories by which others know OS again: those with its ssh host keys,
and with what it gets its address by.  The latter alone is not worth a disk."
  (let ((host-keys (directories-of os %host-keys)))
    (if (null? host-keys)
        '()
        (append host-keys (directories-of os %dhcp-identities)))))

(define (machine-persist machine)
  "Return the directories of MACHINE that outlive its root: those declared, else the
ones by which others know it again."
  (or (virtual-machine-persist machine)
      (and=> (machine-operating-system machine) identity-directories)
      '()))

(define (machine-disks machine)
  "Return the disks of MACHINE beside its root, with the one for what persists."
  (let ((declared (libvirt-domain-disks (virtual-machine-libvirt-domain machine))))
    (if (null? (machine-persist machine))
        declared
        (append declared (list %state-disk)))))

(define (mounted-disks machine)
  (filter (lambda (disk)
            (and (data-disk? disk) (data-disk-target disk)))
          (machine-disks machine)))

(define (disk->file-system disk)
  "Return the <file-system> that mounts DISK, a <data-disk> with a target."
  (file-system
    (device (file-system-label (string-append "data-" (data-disk-name disk))))
    (mount-point (data-disk-target disk))
    (type (data-disk-file-system disk))
    (create-mount-point? #t)
    ;; Activation, which makes host keys for example, comes before other mounts.
    (needed-for-boot? (eq? disk %state-disk))))


;;;
;;; Directories of the host.
;;;

(define %sharing
  ;; What shares directories with guests of the default hypervisor.
  (make-parameter "virtiofs"))

(define (sharing-driver machine mount)
  "Return what shares MOUNT with the guest of MACHINE: virtiofs knows no read-only, and
is refused to hypervisors in session mode."
  (let ((hypervisor (virtual-machine-hypervisor machine)))
    (cond ((mount-point-driver mount) => identity)
          ((mount-point-read-only? mount) "9p")
          ((not hypervisor) (%sharing))
          ((string-suffix? "/session" hypervisor) "9p")
          (else "virtiofs"))))

(define (mount->file-system machine mount)
  "Return the <file-system> for MOUNT, a <mount-point> of MACHINE with a target."
  (let* ((driver  (sharing-driver machine mount))
         (nine-p? (string=? "9p" driver)))
    (file-system
      (device (mount-point-tag mount))
      (mount-point (mount-point-target mount))
      (type driver)
      (flags (if (mount-point-read-only? mount) '(read-only) '()))
      (options (and nine-p? "trans=virtio,version=9p2000.L,msize=262144"))
      (check? #f)
      (create-mount-point? #t))))


;;;
;;; The operating system.
;;;

(define (effective-operating-system machine)
  "Return the operating-system of MACHINE with what its domain adds, or #f if MACHINE
has none."
  (let* ((os        (machine-operating-system machine))
         (domain    (virtual-machine-libvirt-domain machine))
         (arguments (libvirt-domain-kernel-arguments domain))
         (disks     (mounted-disks machine))
         (growing   (delq %state-disk disks))
         (persist   (machine-persist machine))
         (mounts    (append (map disk->file-system disks)
                            (filter-map (lambda (mount)
                                          (and (mount-point-target mount)
                                               (mount->file-system machine mount)))
                                        (libvirt-domain-mount-points domain))))
         (services  (append
                     (if (null? growing) '() (list (service growth-service-type growing)))
                     ;; Activation goes by this order from its end: persistence before
                     ;; all that writes to what persists.
                     (if (null? persist)
                         '()
                         (list (service persistence-service-type persist))))))
    (if (or (not os)
            (and (null? arguments) (null? mounts) (null? services)))
        os
        (operating-system
          (inherit os)
          (location (operating-system-location os)) ;which is not inherited
          (kernel-arguments
           (append (operating-system-user-kernel-arguments os) arguments))
          (file-systems (append (operating-system-file-systems os) mounts))
          (services (append (operating-system-user-services os) services))))))
