;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm json)
  #:use-module (pyguixvm diagnostics)
  #:use-module (pyguixvm records)
  #:use-module (gnu system)
  #:use-module (guix derivations)
  #:use-module (guix diagnostics)
  #:use-module (guix packages)
  #:use-module (ice-9 match)
  #:export (object
            declaration->json
            derivation->json
            location->json
            operating-system->json))

;;; Commentary:
;;;
;;; What declarations consist of, as JSON for 'scm->json'.
;;;
;;; Code:

(define-syntax object
  (syntax-rules ()
    "Return a JSON object with the given KEYs and VALUES; #f stands for null."
    ((_ (key value) ...)
     (list (cons key (or value 'null)) ...))))

(define (value->json value)
  "Return the JSON of VALUE, of a field."
  (match value
    (#f 'null)
    ((? symbol?) (symbol->string value))
    ((? list?) (list->vector (map value->json value)))
    ((? declaration?) (declaration->json value))
    (_ value)))

(define (field->json field value)
  "Return the key and the JSON for VALUE of FIELD; a field whose name ends in '?' is
Boolean, and its key goes without that."
  (let ((name (symbol->string field)))
    (if (string-suffix? "?" name)
        (cons (string-drop-right name 1) value)
        (cons name (value->json value)))))

(define* (declaration->json declaration #:key (except '()))
  "Return a JSON object with the fields of DECLARATION but for those in EXCEPT."
  (let loop ((fields (declaration-values declaration)))
    (match fields
      (() '())
      (((field . value) rest ...)
       (if (memq field except)
           (loop rest)
           (cons (field->json field value) (loop rest)))))))

(define (location->json location)
  "Return the JSON of LOCATION, a <location>, with an absolute file name; #f for #f."
  (and location
       (object ("file"   (absolute-source-file (location-file location)))
               ("line"   (location-line location))
               ("column" (location-column location)))))

(define (derivation->json derivation)
  "Return the JSON of the file names of DERIVATION and of what it builds."
  (object ("derivation" (derivation-file-name derivation))
          ("output"     (derivation->output-path derivation))))

(define (kernel-name kernel)
  (if (package? kernel)
      (package-full-name kernel)
      (object->string kernel)))

(define (operating-system->json os)
  "Return what OS is called, without a derivation of it."
  (object ("host-name" (operating-system-host-name os))
          ("label"     (operating-system-label os))
          ("kernel"    (kernel-name (operating-system-kernel os)))))
