;;; SPDX-License-Identifier: GPL-3.0-or-later
;;;
;;; (gdbm) -- stand-in of Guile-GDBM for (guix man-db): an empty data base,
;;; since the test bed's packages have no manual pages.

(define-module (gdbm)
  #:export (gdbm-open gdbm-set! gdbm-close GDBM_WRCREAT))

(define GDBM_WRCREAT 2)

(define (gdbm-open file flags)
  "Create FILE, whatever FLAGS say, and return it as the data base."
  (close-port (open-output-file file))
  file)

(define (gdbm-set! data-base key value)
  "Forget KEY and VALUE."
  #t)

(define (gdbm-close data-base)
  "There is nothing to close."
  #t)
