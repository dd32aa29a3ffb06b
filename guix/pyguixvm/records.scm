;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm records)
  #:use-module (pyguixvm diagnostics)
  #:use-module (pyguixvm records fields)
  #:use-module (pyguixvm records shorthand)
  #:use-module (ice-9 match)
  #:use-module (srfi srfi-1)
  #:use-module (srfi srfi-11)
  #:export (define-declaration
            define-located
            place-of
            refuse-later))

;;; Commentary:
;;;
;;; A declaration is a Guix record that is written more freely: sizes and MAC
;;; addresses may be bare words, a field that holds another declaration takes its
;;; clauses directly, and every mistake is reported where it was made.
;;;
;;; 'define-declaration' defines the macro that users write.  It expands to the
;;; constructor that 'define-record-type*' made, so that 'inherit', thunked fields
;;; and references to earlier fields work as in all of Guix.
;;;
;;; Code:



;;;
;;; Run-time support.
;;;

(define (refuse-later form what)
  "Refuse FORM, a use of WHAT, since there is nothing behind it yet."
  (refuse (place->location (syntax-place form))
          (format #f "~a is not supported yet" what)))

(define (check-original predicate name location original)
  "Return ORIGINAL, which a declaration of NAME inherits from."
  (if (predicate original)
      original
      (refuse location
              (format #f "~a: ~a cannot be inherited from"
                      name (describe original)))))

(define (place-of places field)
  "Return the <location> of FIELD according to PLACES, as stored in a declaration,
else that of the declaration as a whole."
  (or (assq-ref places field)
      (assq-ref places #f)))


;;;
;;; Expansion.
;;;

(define (expand-clause name form whole specs later)
  "Return the field, the syntax of its value, and that of its <location> for FORM, a
clause in the declaration of NAME at the place WHOLE.  SPECS lists (FIELD CHECK
STYLE); LATER lists the fields to come."
  (define place
    (or (syntax-place form) whole))

  (define fields
    (map (compose car syntax->datum) specs))

  (define (invalid)
    (refuse (place->location place)
            (format #f "~a: '~s' is no field; expected (FIELD VALUE)"
                    name (syntax->datum form))
            #:hint (format #f "The fields are ~a." (field-list fields))))

  (define (checked field check value place)
    (let ((location (place->syntax place)))
      (list field #`(#,check #,value '#,field #,location) location)))

  (syntax-case form ()
    ((field value ...)
     (identifier? #'field)
     (let ((symbol   (syntax->datum #'field))
           (location (place->location place)))
       (when (memq symbol later)
         (refuse location
                 (format #f "~a: field '~a' is not supported yet" name symbol)))
       (match (find (lambda (spec)
                      (eq? symbol (car (syntax->datum spec))))
                    specs)
         (#f
          (refuse-field name symbol fields location))
         (spec
          (syntax-case spec (nested)
            ((_ check (nested macro))
             (clauses? #'(value ...)
                       (clause-names (syntax->datum #'macro)))
             ;; Its own form in the file is this clause.
             (checked #'field #'check
                      #`(macro #:place #,(datum->syntax #'macro place)
                               value ...)
                      place))
            ((_ check style)
             (= 1 (length #'(value ...)))
             (let ((value (car #'(value ...))))
               (checked #'field #'check
                        (expand-value form #'style value)
                        (or (syntax-place value) place))))
            (_
             (invalid)))))))
    (_
     (invalid))))

(define (check-duplicates name clauses)
  "Refuse a field that occurs twice among CLAUSES, the syntax of a declaration of
NAME."
  (fold (lambda (clause seen)
          (syntax-case clause ()
            ((field . _)
             (let ((symbol (syntax->datum #'field)))
               (when (memq symbol seen)
                 (refuse (place->location (syntax-place clause #'field))
                         (format #f "~a: field '~a' is given twice"
                                 name symbol)))
               (cons symbol seen)))
            (_ seen)))
        '()
        clauses))

(define (inherit? clause)
  (syntax-case clause ()
    ((head _)
     (eq? 'inherit (syntax->datum #'head)))
    (_ #f)))

(define (expand-clauses macro place clauses constructor predicate specs later)
  "Return the expansion of CLAUSES, the syntax of a declaration by MACRO at PLACE, to
a use of CONSTRUCTOR."
  (define name
    (syntax->datum macro))

  (check-duplicates name clauses)
  (let-values (((inherited own) (partition inherit? clauses)))
    (with-syntax ((constructor constructor)
                  (((field value location) ...)
                   (map (lambda (clause)
                          (expand-clause name clause place specs later))
                        own))
                  (whole (place->syntax place)))
      (define fields
        #'((field value) ...
           (places (list (cons 'field location) ... (cons #f whole)))))

      (syntax-case inherited ()
        (()
         #`(constructor #,@fields))
        (((_ original))
         #`(let ((parent (check-original #,predicate '#,macro whole original)))
             (constructor (inherit parent) #,@fields)))))))

(define (expand-declaration form constructor predicate specs later)
  "Return the expansion of FORM, a declaration, to a use of CONSTRUCTOR."
  (syntax-case form ()
    ((macro #:place place clause ...)
     (expand-clauses #'macro (syntax->datum #'place) #'(clause ...)
                     constructor predicate specs later))
    ((macro clause ...)
     (expand-clauses #'macro (syntax-place form #'macro) #'(clause ...)
                     constructor predicate specs later))
    (_
     (refuse (place->location (syntax-place form))
             (format #f "~s: invalid syntax" (syntax->datum form))))))

(define-syntax define-declaration
  (syntax-rules (fields later)
    "Define the macro NAME, whose uses expand to uses of CONSTRUCTOR, a record
constructor made by 'define-record-type*' whose last field is 'places'.  Objects of
it satisfy PREDICATE.  Each FIELD has a CHECK, see (pyguixvm sanitizers), and a STYLE:
#f for ordinary expressions, 'bare-word', '(nested MACRO)' for a field that takes
the clauses of MACRO, another declaration, or '(names PREDICATE)' for one whose values,
which satisfy PREDICATE, may be listed by their names alone.  LATER-FIELDs are refused
until there is something behind them."
    ((_ name constructor predicate
        (fields (field check style) ...)
        (later later-field ...))
     (begin
       (eval-when (expand load eval)
         (register-fields! 'name '(field ...) '(later-field ...)))
       (define-syntax name
         (lambda (form)
           (expand-declaration form #'constructor #'predicate
                               #'((field check style) ...)
                               '(later-field ...))))))))

(define-syntax define-located
  (syntax-rules ()
    "Define NAME as a macro that calls PROCEDURE with the ARGUMENTS given to it,
evaluated, followed by its own <location>."
    ((_ (name argument ...) procedure)
     (define-syntax name
       (lambda (form)
         (syntax-case form ()
           ((_ argument ...)
            #`(procedure argument ...
                         #,(place->syntax (syntax-place form))))
           (id
            (identifier? #'id)
            #'(lambda (argument ...)
                (procedure argument ... #f)))
           (_
            (refuse (place->location (syntax-place form))
                    (format #f "~s: expected ~s" (syntax->datum form)
                            '(name argument ...))))))))))
