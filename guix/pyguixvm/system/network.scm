;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm system network)
  #:use-module (gnu services)
  #:use-module ((gnu services base) #:select (static-networking-service-type))
  #:use-module (gnu services shepherd)
  #:use-module (gnu system)
  #:use-module (srfi srfi-1)
  #:export (without-agent?
            without-network?))

;;; Commentary:
;;;
;;; Whether a guest gives itself an address, or an agent.
;;;
;;; Code:

(define (extensions-of service target)
  "Return what SERVICE extends TARGET, a service type, with."
  (filter-map (lambda (extension)
                (and (eq? target (service-extension-target extension))
                     ((service-extension-compute extension)
                      (service-value service))))
              (service-type-extensions (service-kind service))))

(define (provides-networking? service)
  (any (lambda (shepherd-service)
         (memq 'networking (shepherd-service-provision shepherd-service)))
       (concatenate (extensions-of service shepherd-root-service-type))))

(define (without-network? os)
  "Is it certain that no service of OS configures a network?"
  ;; A service whose value nobody can tell yet may be anything.
  (catch #t
    (lambda ()
      (not (any (lambda (service)
                  (or (provides-networking? service)
                      (pair? (extensions-of service static-networking-service-type))))
                (operating-system-user-services os))))
    (const #f)))

(define (without-agent? os)
  "Is it certain that no service of OS runs a guest agent?"
  (catch #t
    (lambda ()
      (not (any (lambda (service)
                  (string-contains (symbol->string
                                    (service-type-name (service-kind service)))
                                   "agent"))
                (operating-system-user-services os))))
    (const #f)))
