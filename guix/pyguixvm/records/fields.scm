;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm records fields)
  #:use-module (pyguixvm diagnostics)
  #:use-module (guix utils)
  #:use-module (ice-9 match)
  #:export (register-fields!
            declared-fields
            clause-names
            declarations-with
            field-list
            refuse-field

            register-accessors!
            declaration?
            declaration-values))

;;; Commentary:
;;;
;;; Which fields each declaration has: one that is misspelt, or that belongs to another
;;; declaration, is refused with a hint; and all that a declaration holds can be told.
;;;
;;; Code:


;;;
;;; While declarations are expanded.
;;;

(define %fields
  ;; Name of a declaration -> names of its fields, and of those to come.
  (make-hash-table))

(define (register-fields! name fields later)
  "Take note that the declaration NAME has FIELDS, and LATER those that are refused yet."
  (hashq-set! %fields name (cons fields later)))

(define (declared-fields name)
  "Return the names of the fields of the declaration NAME."
  (car (hashq-ref %fields name '(()))))

(define (declarations-with field)
  "Return the names of the declarations that have FIELD."
  (hash-fold (lambda (name fields names)
               (if (memq field (append (car fields) (cdr fields)))
                   (cons name names)
                   names))
             '()
             %fields))

(define (clause-names name)
  "Return all names that can start a clause of the declaration NAME."
  (match (hashq-ref %fields name '(()))
    ((fields . later)
     (cons 'inherit (append fields later)))))

(define (field-list fields)
  "Return the names FIELDS as they are enumerated in a sentence."
  (string-join (map symbol->string fields) ", "))

(define (refuse-field name field allowed location)
  "Refuse FIELD in a declaration of NAME, whose fields are ALLOWED."
  (refuse location
          (format #f "~a: unknown field '~a'; the fields are ~a"
                  name (spell field) (field-list allowed))
          #:hint (match (declarations-with field)
                   (()
                    (and=> (string-closest (symbol->string field)
                                           (map symbol->string allowed)
                                           #:threshold 3)
                           (lambda (closest)
                             (format #f "Did you mean '~a'?" closest))))
                   ((other . _)
                    (format #f "'~a' is a field of ~a." field other)))))


;;;
;;; At run time.
;;;

(define %accessors
  ;; Type of a record -> (FIELD . ACCESSOR) for its fields.
  (make-hash-table))

(define (register-accessors! type accessors)
  "Take note that records of TYPE are declarations, whose fields ACCESSORS read."
  (hashq-set! %accessors type accessors))

(define (declaration? object)
  "Is OBJECT a declaration?"
  (and (struct? object)
       (hashq-ref %accessors (struct-vtable object))
       #t))

(define (declaration-values object)
  "Return (FIELD . VALUE) for each field of OBJECT, a declaration."
  (map (match-lambda
         ((field . get) (cons field (get object))))
       (hashq-ref %accessors (struct-vtable object))))
