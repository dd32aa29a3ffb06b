;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm readiness)
  #:use-module (pyguixvm sanitizers)
  #:use-module (pyguixvm records)
  #:use-module (srfi srfi-9)
  #:export (address
            address-ready?

            tcp-port
            tcp-port-ready?
            tcp-port-ready-port

            console
            console-ready?
            console-ready-pattern

            guest-agent
            guest-agent-ready?

            readiness?))

;;; Commentary:
;;;
;;; What tells that a guest is up: forms for the 'ready' field.
;;;
;;; Code:

(define-record-type <address-ready>
  (make-address-ready)
  address-ready?)

(define-record-type <tcp-port-ready>
  (make-tcp-port-ready port)
  tcp-port-ready?
  (port tcp-port-ready-port))                     ;integer

(define-record-type <console-ready>
  (make-console-ready pattern)
  console-ready?
  (pattern console-ready-pattern))                ;regular expression (string)

(define-record-type <guest-agent-ready>
  (make-guest-agent-ready)
  guest-agent-ready?)

(define (readiness? obj)
  "Is OBJ one of the readiness forms?"
  (or (address-ready? obj) (tcp-port-ready? obj)
      (console-ready? obj) (guest-agent-ready? obj)))

;; Ready when an address for one of the machine's MAC addresses is seen.
(define-located (address) address*)

(define (address* location)
  (make-address-ready))

;; Ready when the guest accepts connections to PORT.
(define-located (tcp-port port) tcp-port*)

(define (tcp-port* port location)
  (make-tcp-port-ready (check-port port 'tcp-port location)))

;; Ready when a line on the serial console matches the regular expression PATTERN.
(define-located (console pattern) console*)

(define (console* pattern location)
  (make-console-ready (check-text pattern 'console location)))

;; Ready when the QEMU guest agent answers.
(define-located (guest-agent) guest-agent*)

(define (guest-agent* location)
  (make-guest-agent-ready))
