;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm evaluator realization)
  #:use-module (pyguixvm evaluator failure)
  #:use-module (pyguixvm evaluator handling)
  #:use-module (pyguixvm evaluator store)
  #:use-module (guix base16)
  #:use-module (guix build utils)
  #:use-module (guix config)
  #:use-module (guix store)
  #:use-module (ice-9 match)
  #:use-module (srfi srfi-1)
  #:export (realize
            item->json
            items-beyond))

;;; Commentary:
;;;
;;; Building what an evaluation named, and telling what a disk lacks of it: by a Guix
;;; that is loaded already, where the command 'guix build' takes a second to load.
;;;
;;; Code:

(define (call-and-report thunk)
  "Return what THUNK returns, JSON, or that of the failure that ends it."
  (match (call-with-failure-handling thunk)
    ((? failure? failure) (failure->json failure))
    (json json)))


;;;
;;; Building.
;;;

(define (scanned? file)
  "Return true if FILE is where the garbage collector looks for links by itself."
  (any (lambda (directory)
         (string-prefix? (string-append %state-directory directory) file))
       '("/gcroots/" "/profiles/")))

(define (register-root store root item)
  "Have the file ROOT protect ITEM, if it is valid, from the garbage collector of STORE."
  ;; Returns once no collection goes on that does not know of it; until ROOT is there,
  ;; it is enough.
  (add-temp-root store item)
  (when (valid-path? store item)
    ;; 'register-root' of (guix scripts build) refuses a ROOT that is there.
    (mkdir-p (dirname root))
    (switch-symlinks root item)
    (unless (scanned? root)
      (add-indirect-root store root))))

(define (realize derivations roots)
  "Build DERIVATIONS, a list of file names, and then have each of ROOTS, file names
associated with store items, protect its item.  Guix's words go to the standard error
port."
  (call-and-report
   (lambda ()
     (call-with-guix
      (lambda (store)
        (unless (null? derivations)
          (build-things store derivations))
        (for-each (match-lambda
                    ((root . item) (register-root store root item)))
                  roots))
      #:keep-going? #t)
     '(("realized" . #t)))))


;;;
;;; Closures.
;;;

(define (item->json info item)
  "Return the JSON of ITEM, a file name in the store, with INFO, its <path-info>."
  (let ((references (path-info-references info)))
    `(("path"       . ,item)
      ("hash"       . ,(string-append "sha256:"
                                      (bytevector->base16-string
                                       (path-info-hash info))))
      ("nar-size"   . ,(path-info-nar-size info))
      ("references" . ,(list->vector references)))))

(define (items-beyond present wanted)
  "Return the JSON of the store items that WANTED, a list, refer to in the end and that
are not among PRESENT, hash parts separated by spaces: a set which with each item
holds those that it refers to."
  (define known
    (let ((table (make-hash-table)))
      (for-each (lambda (hash)
                  (hash-set! table hash #t))
                (string-split present #\space))
      table))

  (define (new? item)
    (let ((hash (store-path-hash-part item)))
      (and (not (hash-ref known hash))
           (hash-set! known hash #t))))

  (call-and-report
   (lambda ()
     (with-store store
       (let loop ((queue (filter new? wanted))
                  (items '()))
         (match queue
           (()
            `(("items" . ,(list->vector (reverse items)))))
           ((item . rest)
            (let ((info (query-path-info store item)))
              (loop (append (filter new? (path-info-references info)) rest)
                    (cons (item->json info item) items))))))))))
