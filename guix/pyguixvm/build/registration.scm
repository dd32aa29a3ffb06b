;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm build registration)
  #:use-module (ice-9 match)
  #:use-module (sqlite3)
  #:export (register-items))

;;; Commentary:
;;;
;;; Store items that came to a guest are listed in the database of its Guix, whose schema
;;; is guix/store/schema.sql: what is not, its garbage collector takes for garbage.
;;; 'register-items' of (guix store database) would read each item to compute its hash, which
;;; is known here, commit them one by one, and load more of Guix than all else in the guest.
;;;
;;; Code:

(define %registration-time
  ;; As the items of an image have it.
  1)

(define %patience
  ;; Milliseconds that the guest's daemon may take for what it writes meanwhile.
  60000)

(define* (register-items items #:optional (database "/var/guix/db/db.sqlite"))
  "List ITEMS, each (FILE HASH SIZE REFERENCES), in DATABASE unless it is there: all or
none.  What they refer to is listed, or one of them."
  (let ((db (sqlite-open database SQLITE_OPEN_READWRITE)))
    (define (execute statement . arguments)
      (let ((prepared (sqlite-prepare db statement)))
        (apply sqlite-bind-arguments prepared arguments)
        (sqlite-step prepared)
        (sqlite-finalize prepared)))

    (sqlite-busy-timeout db %patience)
    (execute "begin immediate")
    (for-each (match-lambda
                ((file hash size _)
                 (execute "insert or ignore into ValidPaths \
(path, hash, registrationTime, narSize) values (?, ?, ?, ?)"
                          file hash %registration-time size)))
              items)
    (for-each (match-lambda
                ((file _ _ references)
                 (for-each (lambda (reference)
                             (execute "insert or ignore into Refs (referrer, reference) \
select a.id, b.id from ValidPaths a, ValidPaths b where a.path = ? and b.path = ?"
                                      file reference))
                           references)))
              items)
    (execute "commit")
    (sqlite-close db)))
