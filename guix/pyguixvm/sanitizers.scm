;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm sanitizers)
  #:use-module (pyguixvm diagnostics)
  #:use-module (pyguixvm notation)
  #:use-module (ice-9 format)
  #:use-module (rnrs bytevectors)
  #:use-module (srfi srfi-1)
  #:export (check-boolean
            check-choice
            check-count
            check-deployment-name
            check-each
            check-instance
            check-kernel-argument
            check-label
            check-line
            check-mac-address
            check-machine-name
            check-memory
            check-one-or-each
            check-port
            check-size
            check-tag
            check-text
            check-text-choice
            refuse-value))

;;; Commentary:
;;;
;;; What a single field may hold.  Each check takes the VALUE that was given, the
;;; FIELD's name (a symbol) and the value's LOCATION; it returns the value to
;;; store, or refuses it saying what was given and what is allowed.  To the 'sanitize' of
;;; (guix records) neither name nor place are known.
;;;
;;; Code:

(define (bare value)
  "Return the bare word VALUE, or what else VALUE is, as it was written."
  (if (symbol? value)
      (symbol->string value)
      (describe value)))

(define* (refuse-value value field location allowed
                       #:key hint (describe describe))
  "Refuse VALUE for FIELD at LOCATION since ALLOWED, a noun phrase, is expected.
HINT says what to do, DESCRIBE what VALUE is."
  (refuse location
          (format #f "~a: ~a is not ~a" field (describe value) allowed)
          #:hint hint))

(define (check-boolean value field location)
  "Check a truth value."
  (if (boolean? value)
      value
      (refuse-value value field location "#t or #f")))

(define (check-count largest)
  "Return a check for integers from 1 to LARGEST."
  (lambda (value field location)
    (cond ((not (and (exact-integer? value) (positive? value)))
           (refuse-value value field location "an integer of at least 1"))
          ((> value largest)
           (refuse-value value field location
                         (format #f "an integer of at most ~a" largest)))
          (else value))))

(define (check-port value field location)
  "Check the number of a TCP or UDP port."
  (if (and (exact-integer? value) (<= 1 value 65535))
      value
      (refuse-value value field location "a port number from 1 to 65535")))

(define (check-choice . choices)
  "Return a check for one of the symbols CHOICES."
  (lambda (value field location)
    (if (memq value choices)
        value
        (refuse-value value field location
                      (format #f "one of ~{'~a~^, ~}" choices)))))

(define (check-text-choice . choices)
  "Return a check for one of the strings CHOICES."
  (lambda (value field location)
    (if (member value choices)
        value
        (refuse-value value field location
                      (format #f "one of ~{~s~^, ~}" choices)))))


;;;
;;; Sizes.
;;;

(define %size-allowed
  "a size, such as 2G, 512M, \"10GiB\", or a number of bytes")

(define (value->bytes value field location)
  (let ((bytes (cond ((exact-integer? value) value)
                     ((symbol? value) (string->size (symbol->string value)))
                     ((string? value) (string->size value))
                     (else #f))))
    (cond ((not bytes)
           (refuse-value value field location %size-allowed
                         #:describe bare
                         #:hint "The units are K, M, G, T and P, powers of 1024."))
          ((not (positive? bytes))
           (refuse-value value field location "a size greater than 0"
                         #:describe bare))
          (else bytes))))

(define (unit-hint value minimum)
  "Return what VALUE may mean, if it is a number that gives MINIMUM bytes or more with a unit
that is likely."
  ;; "(memory 512)" most likely means megabytes, as virt-install has it, and 524288 kilobytes,
  ;; as libvirt does.
  (and (exact-integer? value)
       (any (lambda (unit)
              (let ((size (string-append (number->string value) unit)))
                (and (<= minimum (string->size size) (expt 1024 4))
                     (format #f "A number counts bytes; did you mean ~a?" size))))
            '("M" "G" "K"))))

(define %largest-disk
  ;; That of a qcow2 image: a table of 32 MiB (QCOW_MAX_L1_SIZE in QEMU's block/qcow2.h)
  ;; leads to tables of one cluster, 64 KiB; each entry has 8 bytes, and each of the latter
  ;; leads to a cluster.
  (expt 2 51))

(define (check-size value field location)
  "Check the size of a disk, which consists of sectors; return it in bytes."
  (let ((bytes (value->bytes value field location)))
    (cond ((not (zero? (modulo bytes 512)))
           (refuse-value value field location
                         "a multiple of 512 bytes, the size of a sector"
                         #:describe bare
                         #:hint (unit-hint value (* 128 (expt 1024 2)))))
          ((> bytes %largest-disk)
           (refuse-value value field location
                         (format #f "at most ~a, the size of the largest image"
                                 (size->string %largest-disk))
                         #:describe bare))
          (else bytes))))

(define %minimum-memory (* 64 (expt 1024 2)))

(define %maximum-memory
  ;; What an x86-64 processor can address, 52 bits.
  (expt 2 52))

(define (check-memory value field location)
  "Check a size of memory; return it in bytes."
  ;; libvirt counts memory in KiB; no Guix System starts in less than 64 MiB.
  (let ((bytes (value->bytes value field location)))
    (cond ((< bytes %minimum-memory)
           (refuse-value value field location
                         (format #f "at least ~a" (size->string %minimum-memory))
                         #:describe bare
                         #:hint (unit-hint value %minimum-memory)))
          ((> bytes %maximum-memory)
           (refuse-value value field location
                         (format #f "at most ~a" (size->string %maximum-memory))
                         #:describe bare))
          ((not (zero? (modulo bytes 1024)))
           (refuse-value value field location "a multiple of 1024 bytes"
                         #:describe bare))
          (else bytes))))


;;;
;;; Names and text.
;;;

(define (check-text value field location)
  "Check any text."
  (if (and (string? value) (not (string-null? value)))
      value
      (refuse-value value field location "a non-empty string")))

(define (check-line value field location)
  "Check text that has no spaces and control characters, the address of something."
  (if (and (string? value)
           (not (string-null? value))
           (not (string-any (lambda (chr)
                              (or (char-set-contains? char-set:iso-control chr)
                                  (char-set-contains? char-set:whitespace chr)))
                            value)))
      value
      (refuse-value value field location
                    "a non-empty string without spaces and line breaks")))

(define %special-to-grub
  ;; GRUB's script takes these for more than text, and the rest of the line is lost.
  (string->char-set ";&|<>{}$`"))

(define (check-kernel-argument value field location)
  "Check an argument for the kernel, which GRUB reads in a line of its configuration."
  (check-text value field location)
  (cond ((string-any char-set:iso-control value)
         (refuse-value value field location
                       "one line, without control characters"))
        ;; What is quoted was meant.
        ((and (string-any %special-to-grub value)
              (not (string-any (char-set #\" #\' #\\) value)))
         (refuse-value value field location
                       "an argument that GRUB passes on as it is: it takes \
';', '&', '|', '<', '>', '{', '}', '$' and '`' for its own"
                       #:hint "Put it in quotes of its own, as in a GRUB script."))
        (else value)))

(define %longest-label
  ;; libvirt keeps its XML in a file of that name.
  250)

(define (check-label value field location)
  "Check the name of a libvirt network or pool."
  (if (and (string? value)
           (not (string-null? value))
           (not (member value '("." "..")))
           (<= (bytevector-length (string->utf8 value)) %longest-label)
           (not (string-any (lambda (chr)
                              (or (char=? chr #\/)
                                  (char-set-contains? char-set:iso-control chr)))
                            value)))
      value
      (refuse-value value field location
                    "a name: 1 to 250 bytes of text without slashes")))

(define %name-rx
  (make-regexp "^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$"))

(define (check-name what)
  "Return a check for names; WHAT, a noun phrase, is what they are names of."
  (lambda (value field location)
    (if (and (string? value) (regexp-exec %name-rx value))
        value
        (refuse-value value field location
                      (string-append "the name of " what ": at most 64 letters, \
digits, '.', '_' and '-', not starting with '.' or '-'")))))

;; Volumes are files named after their machine.
(define check-machine-name (check-name "a machine"))

(define check-deployment-name (check-name "a deployment"))

(define check-tag (check-name "a group of machines"))

(define (check-mac-address value field location)
  "Check the MAC address of an interface; return it as libvirt writes it."
  (define (refuse-address allowed)
    (refuse-value value field location allowed #:describe bare))

  (let ((address (string->mac-address (cond ((symbol? value)
                                             (symbol->string value))
                                            ((string? value) value)
                                            (else "")))))
    (cond ((not address)
           (refuse-address "a MAC address of six hexadecimal pairs, such as \
52:54:00:12:34:56"))
          ((odd? (string->number (string-take address 2) 16))
           (refuse-address "the address of one interface: its first pair is \
odd, which makes it a multicast address"))
          ((string=? address "00:00:00:00:00:00")
           (refuse-address "an address: it consists of zeros"))
          (else address))))


;;;
;;; Records and lists.
;;;

(define (check-instance predicate what)
  "Return a check for objects that satisfy PREDICATE; WHAT is their noun phrase."
  (lambda (value field location)
    (if (predicate value)
        value
        (refuse-value value field location what))))

(define (check-elements check values field location)
  (map (lambda (value)
         (attempt (lambda () (check value field location)) location))
       values))

(define (check-each check)
  "Return a check for lists whose elements all pass CHECK."
  (lambda (value field location)
    (if (list? value)
        (check-elements check value field location)
        (refuse-value value field location "a list"
                      #:hint (format #f "Write (~a (list …))." field)))))

(define (check-one-or-each check)
  "Return a check for lists whose elements all pass CHECK, or a single one, of which it
makes a list."
  (lambda (value field location)
    (check-elements check (if (list? value) value (list value)) field location)))
