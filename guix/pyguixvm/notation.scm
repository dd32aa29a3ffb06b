;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm notation)
  #:use-module (gcrypt hash)
  #:use-module (ice-9 match)
  #:use-module (ice-9 regex)
  #:use-module (rnrs bytevectors)
  #:use-module (srfi srfi-11)
  #:export (string->size
            size->string
            string->mac-address
            derived-mac-address))

;;; Commentary:
;;;
;;; Sizes and MAC addresses as people write them.
;;;
;;; Code:

(define %size-rx
  (make-regexp "^([0-9]+(\\.[0-9]+)?)(([KMGTP])(iB)?)?$"))

(define %units
  ;; Powers of 1024, as QEMU and 'qemu-img' count.
  '(("K" . 1) ("M" . 2) ("G" . 3) ("T" . 4) ("P" . 5)))

;; 'size->number' of (guix ui) is for command lines: it ends the program, rounds, and
;; takes other units, too.
(define (string->size str)
  "Return the number of bytes that STR, such as \"2G\" or \"1.5GiB\", stands for,
or #f when it is no size or no whole number of bytes."
  (and=> (regexp-exec %size-rx str)
         (lambda (m)
           (let* ((number (string->number (string-append "#e"
                                                         (match:substring m 1))))
                  (power  (or (assoc-ref %units (match:substring m 4)) 0))
                  (bytes  (* number (expt 1024 power))))
             (and (integer? bytes) bytes)))))

(define (size->string bytes)
  "Return BYTES, an integer, in the largest unit that divides it."
  (let loop ((units (reverse %units)))
    (match units
      (() (number->string bytes))
      (((unit . power) rest ...)
       (let-values (((quotient remainder)
                     (floor/ bytes (expt 1024 power))))
         (if (and (zero? remainder) (positive? quotient))
             (string-append (number->string quotient) unit)
             (loop rest)))))))

(define %mac-address-rx
  (make-regexp "^([0-9a-f]{2}:){5}[0-9a-f]{2}$" regexp/icase))

(define (string->mac-address str)
  "Return STR in lower case, which is how libvirt writes MAC addresses, or #f when
it does not consist of six hexadecimal pairs."
  (and (regexp-exec %mac-address-rx str)
       (string-downcase str)))

(define (derived-mac-address name index)
  "Return the MAC address of the interface INDEX (from 0) of the machine called
NAME, in QEMU's range 52:54:00.  It is the same in each run."
  (let ((hash (sha256 (string->utf8
                       (string-append "pyguixvm:" name
                                      (number->string index))))))
    (string-join (cons "52:54:00"
                       (map (lambda (n)
                              (string-pad (number->string
                                           (bytevector-u8-ref hash n) 16)
                                          2 #\0))
                            (iota 3)))
                 ":")))
