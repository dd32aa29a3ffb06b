;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm sanitizers directories)
  #:use-module (pyguixvm diagnostics)
  #:use-module (pyguixvm sanitizers)
  #:use-module (ice-9 format)
  #:use-module (srfi srfi-1)
  #:export (check-directory
            check-persist
            check-target))

;;; Commentary:
;;;
;;; Which directories a field may hold: of the host, or of a guest, which needs some of
;;; its own undisturbed.
;;;
;;; Code:

(define (check-directory value field location)
  "Check the absolute name of a directory other than the root."
  (if (and (string? value)
           (string-prefix? "/" value)
           (not (string-every #\/ value))
           (not (string-any char-set:iso-control value))
           (not (any (lambda (part)
                       (member part '("." "..")))
                     (string-split value #\/))))
      (string-append "/" (string-join (string-tokenize
                                       value (char-set-complement (char-set #\/)))
                                      "/"))
      (refuse-value value field location
                    "the absolute name of a directory, other than \"/\"")))

(define %volatile-directories
  ;; What the guest makes anew, or must not lose sight of.
  '("/gnu" "/proc" "/sys" "/dev" "/run"))

(define %system-directories
  ;; What the guest needs before, or beside, what it mounts.
  '("/bin" "/boot" "/etc" "/lib" "/usr" "/var" "/var/guix" "/var/lib" "/var/run"))

(define %state-directory
  ;; Where the directories of 'persist' are kept.
  "/var/lib/pyguixvm")

(define (within? directory other)
  "Is DIRECTORY the directory OTHER, or below it?"
  (string-prefix? (string-append other "/") (string-append directory "/")))

(define (volatile? directory)
  (any (lambda (other) (within? directory other)) %volatile-directories))

(define (check-mounted value field location)
  (let ((directory (check-directory value field location)))
    (when (or (volatile? directory)
              (member directory %system-directories))
      (refuse-value value field location
                    "a directory that may be hidden by what is mounted there"
                    #:hint (format #f "The guest needs ~a itself; mount at a directory of \
its own, such as /srv/NAME." directory)))
    directory))

(define (check-target value field location)
  "Check the directory at which a guest mounts something, or #f."
  (and value (check-mounted value field location)))

(define (check-persistent value field location)
  (let ((directory (check-directory value field location)))
    (cond ((volatile? directory)
           (refuse-value value field location
                         (format #f "a directory that can be kept: none below ~{~a~^, ~}"
                                 %volatile-directories)))
          ((or (within? %state-directory directory)
               (within? directory %state-directory))
           (refuse-value value field location
                         (format #f "a directory that can be kept: what is kept is in ~a"
                                 %state-directory)
                         #:hint "Name the directories in it that matter, such as \
/var/lib/NAME."))
          (else directory))))

(define (check-persist value field location)
  "Check what 'persist' may hold: directories, none of them inside another."
  (let ((directories ((check-each check-persistent) value field location)))
    (for-each (lambda (directory)
                (let ((outer (find (lambda (other)
                                     (and (string? directory) (string? other)
                                          (not (string=? directory other))
                                          (within? directory other)))
                                   directories)))
                  (when outer
                    (refuse location
                            (format #f "~a: ~a is inside ~a, which is kept as a whole"
                                    field directory outer)
                            #:hint (format #f "Leave ~a out." directory)))))
              directories)
    directories))
