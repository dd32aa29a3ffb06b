;;; SPDX-License-Identifier: GPL-3.0-or-later
;;;
;;; (testbed debian) -- what the surrounding Debian system has installed.

(define-module (testbed debian)
  #:use-module (ice-9 match)
  #:use-module (ice-9 rdelim)
  #:use-module (srfi srfi-1)
  #:use-module (srfi srfi-26)
  #:export (debian-stamp))

;;; Commentary:
;;;
;;; A wrapper copies files that are none of its derivation's inputs.  So that
;;; it is made anew when Debian's packages change, and only then, its
;;; derivation holds a stamp: the versions of the Debian packages in question
;;; and of all that they depend on, as dpkg recorded them.
;;;
;;; Code:

(define %status-file "/var/lib/dpkg/status")

(define (field-value prefix line)
  "Return what follows PREFIX in LINE, or #f if LINE does not start with it."
  (and (string-prefix? prefix line)
       (string-trim-both (string-drop line (string-length prefix)))))

(define (dependency-names text)
  "Return the names in TEXT, a Depends field, alternatives included."
  (filter-map (lambda (clause)
                (match (string-tokenize clause)
                  ((name . _) (first (string-split name #\:)))
                  (() #f)))
              (string-tokenize text (char-set-complement (char-set #\, #\|)))))

(define (read-status port)
  "Return a hash table that maps the name of each package that PORT, a dpkg
status file, describes to its version and the names it depends on."
  (define table (make-hash-table 1024))

  (let loop ((name #f) (version #f) (depends '()))
    (let ((line (read-line port)))
      (cond ((or (eof-object? line) (string-null? line))
             (when (and name version)
               (hash-set! table name (cons version depends)))
             (unless (eof-object? line)
               (loop #f #f '())))
            ((field-value "Package:" line)
             => (cut loop <> version depends))
            ((field-value "Version:" line)
             => (cut loop name <> depends))
            ((or (field-value "Depends:" line)
                 (field-value "Pre-Depends:" line))
             => (lambda (text)
                  (loop name version
                        (append (dependency-names text) depends))))
            (else
             (loop name version depends)))))
  table)

(define %packages
  ;; Read at most once, and only by those who ask.
  (delay (call-with-input-file %status-file read-status
                               #:encoding "UTF-8")))

(define (closure names)
  "Return NAMES and, recursively, the installed packages that they depend on."
  (let loop ((names names) (seen '()))
    (match names
      (() seen)
      ((name . rest)
       (match (and (not (member name seen))
                   (hash-ref (force %packages) name))
         (#f (loop rest seen))
         ((_ . depends) (loop (append depends rest) (cons name seen))))))))

(define (debian-stamp names)
  "Return a string that changes when one of the Debian packages NAMES, or of
those that they depend on, changes.  A name that is not installed is an error:
its wrapper could only fail later and less clearly."
  (for-each (lambda (name)
              (unless (hash-ref (force %packages) name)
                (error "package of Debian missing in the test bed:" name)))
            names)
  (string-join (sort (map (lambda (name)
                            (match (hash-ref (force %packages) name)
                              ((version . _)
                               (string-append name "=" version))))
                          (closure names))
                     string<?)))
