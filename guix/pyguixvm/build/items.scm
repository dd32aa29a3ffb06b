;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm build items)
  #:use-module (guix build utils)
  #:use-module (ice-9 ftw)
  #:use-module (srfi srfi-1)
  #:export (copy-items))

;;; Commentary:
;;;
;;; Store items that come to a running guest on a disk.
;;;
;;; Code:

(define %unfinished
  ;; No store item begins like this: theirs begin with a hash.
  ".unfinished-")

(define (entries directory)
  (or (scandir directory (lambda (name) (not (member name '("." "..")))))
      (error "cannot read directory" directory)))

(define (copy-items source store)
  "Copy each item in the directory SOURCE that the directory STORE lacks, and return the
names of those.  An item is there as a whole or not at all, wherever this is ended, even
by a power failure; what an ended one left is removed."
  (for-each (lambda (name)
              (when (string-prefix? %unfinished name)
                (delete-file-recursively (string-append store "/" name))))
            (entries store))
  (let* ((present (entries store))
         (missing (lset-difference string=? (entries source) present))
         (unfinished (lambda (name)
                       (string-append store "/" %unfinished name))))
    (for-each (lambda (name)
                (copy-recursively (string-append source "/" name) (unfinished name)
                                  #:keep-mtime? #t
                                  #:keep-permissions? #t
                                  #:log (%make-void-port "w")))
              missing)
    ;; The content is on the disk before the names that vouch for it.
    (sync)
    (for-each (lambda (name)
                (rename-file (unfinished name) (string-append store "/" name)))
              missing)
    missing))
