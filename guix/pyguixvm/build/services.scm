;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm build services)
  #:use-module (ice-9 match)
  #:use-module (srfi srfi-1)
  #:export (obsolete-services
            services-to-start))

;;; Commentary:
;;;
;;; Which services of a running Shepherd go, and which start, when it is to have those of
;;; another system.  That is decided inside the guest, where Guix's own
;;; 'shepherd-service-upgrade' of (gnu services shepherd) would bring all of Guix along:
;;; this needs nothing but Guile.
;;;
;;; A live service is (PROVISION REQUIREMENT TRANSIENT? RUNNING), a wanted one is
;;; (PROVISION AUTO-START?), where PROVISION and REQUIREMENT are lists of symbols.
;;;
;;; Code:

(define (canonical-name service)
  (first (first service)))

(define (obsolete-services live wanted)
  "Return the names of the services of LIVE that are to be unloaded: those that WANTED
lacks, and on which nothing that stays depends."
  (define kept
    (append-map first wanted))

  (define (dependents service)
    (filter (match-lambda
              ((_ requirement _ _)
               (any (lambda (name) (memq name requirement)) (first service))))
            live))

  (define (obsolete? service)
    (and (not (memq (canonical-name service) kept))
         (every obsolete? (dependents service))))

  (filter-map (match-lambda
                ((and service (_ _ transient? _))
                 (and (not transient?)
                      (not (memq (canonical-name service) '(root shepherd)))
                      (obsolete? service)
                      (canonical-name service))))
              live))

(define (services-to-start live wanted)
  "Return the names of the services of WANTED that start by themselves and that do not run
in LIVE."
  (define running
    (filter-map (match-lambda
                  ((provision _ _ running) (and running (first provision))))
                live))

  (filter-map (match-lambda
                (((name . _) auto-start?)
                 (and auto-start? (not (memq name running)) name)))
              wanted))
