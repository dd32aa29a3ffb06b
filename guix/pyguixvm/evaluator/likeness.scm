;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm evaluator likeness)
  #:use-module (ice-9 match)
  #:use-module (rnrs bytevectors)
  #:use-module (srfi srfi-1)
  #:use-module (srfi srfi-26)
  #:export (make-representative))

;;; Commentary:
;;;
;;; Objects that are made anew and are what they were.  Each evaluation makes the gexps and
;;; file-like objects of a system anew, most of them of the same code and values as those of
;;; the system before; Guix, which compares them by 'eq?', lowers them all once more.
;;;
;;; That two procedures do the same cannot be known in general.  But the one that makes up a
;;; gexp has no variables of its own: of a module that is loaded once it is one object, and
;;; what it is applied to are fields of the gexp, which are compared in turn.
;;;
;;; Each value gets a number; two values have the same one only if nobody who lowers them
;;; could tell them apart.
;;;
;;; Code:

(define (known-by-itself? value)
  "Is VALUE 'eq?' to all that are 'equal?' to it, or an object that does not change?"
  (or (symbol? value) (keyword? value) (char? value) (boolean? value) (null? value)
      (procedure? value) (struct? value)))

(define (known-by-content? value)
  (or (string? value) (number? value) (bytevector? value)))

(define (unchangeable value)
  "Return VALUE, which is known by its content, such that nobody else can change it."
  (cond ((string? value)     (string-copy value))
        ((bytevector? value) (bytevector-copy value))
        (else                value)))

(define (counted-fields type ignored)
  "Return the indices of the fields of TYPE whose names are not among IGNORED."
  (let ((names (record-type-fields type)))
    (filter-map (lambda (name index)
                  (and (not (memq name ignored)) index))
                names (iota (length names)))))

(define* (make-representative types #:key (ignored '()))
  "Return a procedure that returns, of an object of one of TYPES, the first object it was
called with that is like it; and anything else as it is.  Objects are alike when they are
of the same of TYPES and all their fields are, but for those with names among IGNORED."
  (define contents (make-hash-table))             ;by 'equal?': value -> number
  (define selves   (make-hash-table))             ;by 'eq?':    value -> number
  (define pairs    (make-hash-table))             ;by 'eqv?':   two numbers -> number
  (define firsts   (make-hash-table))             ;by 'eqv?':   number -> object

  (define next-number
    (let ((last 0))
      (lambda ()
        (set! last (+ 1 last))
        last)))

  (define kinds
    ;; (TYPE NUMBER INDEX …): a number of its own, and the fields that count.
    (map (lambda (type)
           (cons* type (next-number) (counted-fields type ignored)))
         types))

  (define (kind-of value)
    (and (struct? value)
         (assq-ref kinds (struct-vtable value))))

  (define-syntax-rule (number-in table ref set! key stored)
    (or (ref table key)
        (let ((number (next-number)))
          (set! table stored number)
          number)))

  (define (number-of-both first second)
    ;; One integer is found sooner than a pair; numbers do not get as large as this.
    (let ((both (+ (ash first 30) second)))
      (number-in pairs hashv-ref hashv-set! both both)))

  (define (number-of-object object kind)
    (or (hashq-ref selves object)
        (match kind
          ((number . fields)
           (let ((number (fold (lambda (index number)
                                 (number-of-both (number-of (struct-ref object index))
                                                 number))
                               number fields)))
             (hashq-set! selves object number)
             number)))))

  (define (number-of value)
    (cond ((pair? value)
           (number-of-both (number-of (car value)) (number-of (cdr value))))
          ((kind-of value)
           => (cut number-of-object value <>))
          ((known-by-itself? value)
           (number-in selves hashq-ref hashq-set! value value))
          ((known-by-content? value)
           (number-in contents hash-ref hash-set! value (unchangeable value)))
          (else                                   ;what it holds may change
           (next-number))))

  (lambda (object)
    (match (kind-of object)
      (#f object)
      (kind
       (let ((number (number-of-object object kind)))
         (or (hashv-ref firsts number)
             (begin
               (hashv-set! firsts number object)
               object)))))))
