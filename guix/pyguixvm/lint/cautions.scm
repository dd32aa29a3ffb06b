;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm lint cautions)
  #:use-module (pyguixvm diagnostics)
  #:use-module (pyguixvm libvirt)
  #:use-module (pyguixvm machine)
  #:use-module (pyguixvm readiness)
  #:use-module (pyguixvm storage)
  #:use-module (pyguixvm system bootable)
  #:use-module (pyguixvm system guest)
  #:use-module (pyguixvm system network)
  #:use-module (gnu bootloader)
  #:use-module (gnu system)
  #:use-module (ice-9 match)
  #:use-module (srfi srfi-1)
  #:export (caution-agent
            caution-interfaces
            caution-menu
            caution-network
            caution-paths
            caution-system))

;;; Commentary:
;;;
;;; What may be meant, but seldom is.
;;;
;;; Code:

(define (caution-network machine)
  "Warn of MACHINE when it is waited for an address that nothing will give it."
  (let ((os   (machine-operating-system machine))
        (sign (find (lambda (sign)
                      (memq (readiness-kind sign) '(address tcp-port)))
                    (virtual-machine-ready machine))))
    (when (and os sign (without-network? os))
      (caution (or (virtual-machine-place machine 'ready)
                   (virtual-machine-location machine))
               "this machine is ready when it has an address, and no service of its \
operating-system configures a network"
               #:hint "Add (service dhcpcd-service-type), of (gnu services networking), or \
write (ready '())."))))

(define (caution-interfaces machine)
  "Warn of MACHINE when it is waited for an address, and it has no interface."
  (when (and (any (lambda (sign)
                    (memq (readiness-kind sign) '(address tcp-port)))
                  (virtual-machine-ready machine))
             (null? (libvirt-domain-networking (virtual-machine-libvirt-domain machine))))
    (caution (or (virtual-machine-place machine 'ready)
                 (libvirt-domain-place (virtual-machine-libvirt-domain machine)
                                       'networking)
                 (virtual-machine-location machine))
             "this machine is ready when it has an address, and its networking is empty"
             #:hint "Write (ready (console \"REGEXP\")), (ready (guest-agent)) or (ready '()).")))

(define (caution-agent machine)
  "Warn of MACHINE when it is waited for an agent that nothing in it runs."
  (let ((os   (machine-operating-system machine))
        (sign (find (lambda (sign)
                      (eq? 'guest-agent (readiness-kind sign)))
                    (virtual-machine-ready machine))))
    (when (and os sign (without-agent? os))
      (caution (or (virtual-machine-place machine 'ready)
                   (virtual-machine-location machine))
               "this machine is ready when its guest agent answers, and no service of its \
operating-system runs one"
               #:hint "Add (service qemu-guest-agent-service-type), of (gnu services \
virtualization)."))))

(define %paths
  ;; What differences of a machine are called, as far as it is always the same.
  '("activation" "domain" "ignore-drift" "image" "protect" "ready" "ready-timeout" "root"))

(define %domain-paths
  '("agent-channel" "autostart" "clock" "console" "cpu" "description" "disks" "firmware"
    "kernel-arguments" "maximum-cpu" "maximum-memory" "memory" "mount-points"
    "networking" "persistent" "pool" "storage" "title" "virtualization"))

(define (caution-paths machine)
  "Warn of MACHINE when it ignores differences by a name that none has."
  (for-each (lambda (path)
              (match (string-split path #\.)
                (("domain" part _ ...)
                 (unless (member part %domain-paths)
                   (caution-path machine path)))
                ((part _ ...)
                 (unless (member part %paths)
                   (caution-path machine path)))))
            (filter string? (virtual-machine-ignore-drift machine))))

(define (caution-path machine path)
  (caution (or (virtual-machine-place machine 'ignore-drift)
               (virtual-machine-location machine))
           (format #f "ignore-drift: no difference is called ~s" path)
           #:hint "'pyguixvm status' shows what they are called: domain.memory, for \
example."))

(define (caution-system machine)
  "Warn of MACHINE if its operating-system may not start."
  (let ((os (machine-operating-system machine)))
    (when os
      (unless (any block-device? (machine-disks machine))
        (caution-devices os))
      (caution-drivers os))))

(define (caution-menu machine)
  "Warn of MACHINE if each of its starts waits for somebody to choose from a boot menu."
  (let* ((os      (and (not (virtual-machine-shared-store? machine))
                       (machine-operating-system machine)))
         (seconds (if os
                      (bootloader-configuration-timeout
                       (operating-system-bootloader os))
                      0)))
    (unless (eqv? 0 seconds)
      (caution (or (virtual-machine-place machine 'operating-system)
                   (virtual-machine-location machine))
               (if (and (number? seconds) (positive? seconds))
                   (format #f "each start of this machine waits ~a s at its boot menu"
                           seconds)
                   "each start of this machine waits at its boot menu until somebody \
chooses")
               #:hint "Write (timeout 0) in its bootloader-configuration."))))
