;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm lint)
  #:use-module (pyguixvm diagnostics)
  #:use-module (pyguixvm lint machine)
  #:use-module (pyguixvm machine)
  #:use-module (pyguixvm system guest)
  #:use-module (ice-9 format)
  #:use-module (ice-9 match)
  #:use-module (ice-9 vlist)
  #:use-module (srfi srfi-1)
  #:use-module (srfi srfi-26)
  #:export (validate-deployment))

;;; Commentary:
;;;
;;; Rules about the machines of a deployment: each, and all together.
;;;
;;; Code:

(define (named? machine)
  "Is MACHINE one with a name?  Others are refused already."
  (and (not (refused? machine))
       (string? (false-if-exception (virtual-machine-name machine)))))

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

(define (requires-location machine)
  (or (virtual-machine-place machine 'requires)
      (virtual-machine-location machine)))

(define (validate-requires machines)
  "Refuse a machine among MACHINES that requires one that is not declared, or, by way of
others maybe, itself."
  (define names
    (map virtual-machine-name machines))

  (define (required machine)
    (let ((names (virtual-machine-requires machine)))
      (if (refused? names) '() names)))

  (define by-name
    (alist->vhash (map cons names machines)))

  (define (way-back machine)
    ;; The names on a way from MACHINE to itself, or #f.
    (define seen (make-hash-table))

    (define name (virtual-machine-name machine))

    (let search ((machine machine)
                 (way (list name)))
      (any (lambda (next)
             (cond ((string=? next name)
                    (reverse (cons next way)))
                   ((hash-ref seen next)
                    #f)
                   (else
                    (hash-set! seen next #t)
                    (match (vhash-assoc next by-name)
                      ((_ . machine) (search machine (cons next way)))))))
           (required machine))))

  (for-each (lambda (machine)
              (match (remove (cut vhash-assoc <> by-name) (required machine))
                (() #t)
                ((unknown _ ...)
                 (refuse (requires-location machine)
                         (format #f "requires: there is no machine '~a'; the \
configuration declares ~{~a~^, ~}" unknown names)))))
            machines)
  (for-each (lambda (machine)
              (let ((way (way-back machine)))
                (when way
                  (refuse (requires-location machine)
                          (format #f "requires: this machine would wait for itself: \
~{~a~^ requires ~}" way)
                          #:hint "Leave out one of them."))))
            machines))

(define (validate-deployment deployment)
  "Refuse DEPLOYMENT if it breaks a rule; return it otherwise."
  (let ((machines (deployment-machines deployment)))
    (when (null? machines)
      (refuse (deployment-place deployment 'machines)
              "machines: the list is empty"))
    (for-each validate-machine (remove refused? machines))
    ;; Two machines of one name have the same addresses, too.
    (let ((machines (filter named? machines)))
      (unless (refused? (attempt (lambda () (validate-names machines))))
        (attempt (lambda () (validate-mac-addresses machines)))
        (attempt (lambda () (validate-requires machines)))))
    deployment))
