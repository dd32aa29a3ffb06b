;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm evaluator failure)
  #:use-module (pyguixvm json)
  #:use-module (srfi srfi-9)
  #:export (make-failure
            failure?
            failure-kind
            failure-message
            failure-hint
            failure-location
            failure->json
            failure->json-object))

;;; Commentary:
;;;
;;; What goes wrong while a configuration is loaded and lowered, as data.
;;;
;;; Code:

(define-record-type <failure>
  (make-failure kind message hint location)
  failure?
  (kind     failure-kind)              ;'syntax, 'validation, 'unreachable: the daemon, …
  (message  failure-message)           ;string
  (hint     failure-hint)              ;string | #f
  (location failure-location))         ;<location> | #f

(define (failure->json-object failure)
  "Return what FAILURE says as JSON."
  (object ("kind"     (symbol->string (failure-kind failure)))
          ("message"  (failure-message failure))
          ("hint"     (failure-hint failure))
          ("location" (location->json (failure-location failure)))))

(define (failure->json failure)
  "Return the JSON of an answer that consists of FAILURE."
  `(("error" . ,(failure->json-object failure))))
