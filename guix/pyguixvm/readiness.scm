;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm readiness)
  #:use-module (pyguixvm records)
  #:use-module (pyguixvm sanitizers)
  #:use-module (srfi srfi-9)
  #:use-module (srfi srfi-9 gnu)
  #:export (address
            tcp-port
            console
            guest-agent

            readiness?
            readiness-kind
            readiness-properties))

;;; Commentary:
;;;
;;; What tells that a guest is up: forms for the 'ready' field.  A new one is a form
;;; here, and its structure in pyguixvm/model/declaration.py, where the rest is said.
;;;
;;; Code:

(define-record-type <readiness>
  (make-readiness kind properties)
  readiness?
  (kind       readiness-kind)                     ;symbol
  (properties readiness-properties))              ;alist

(set-record-type-printer! <readiness>
  (lambda (readiness port)
    (write (cons (readiness-kind readiness)
                 (map cdr (readiness-properties readiness)))
           port)))

;; Ready when an address for one of the machine's MAC addresses is seen.
(define-located (address) address*)

(define (address* location)
  (make-readiness 'address '()))

;; Ready when the guest accepts connections to PORT.
(define-located (tcp-port port) tcp-port*)

(define (tcp-port* port location)
  (make-readiness 'tcp-port
                  `((port . ,(check-port port 'tcp-port location)))))

;; Ready when a line on the serial console matches the regular expression PATTERN.
(define-located (console pattern) console*)

(define (console* pattern location)
  (make-readiness 'console
                  `((pattern . ,(check-text pattern 'console location)))))

;; Ready when the QEMU guest agent answers.
(define-located (guest-agent) guest-agent*)

(define (guest-agent* location)
  (make-readiness 'guest-agent '()))
