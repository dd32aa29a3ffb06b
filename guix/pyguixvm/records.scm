;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm records)
  #:use-module (pyguixvm diagnostics)
  #:use-module (pyguixvm records fields)
  #:use-module (pyguixvm records shorthand)
  #:use-module ((guix diagnostics)
                #:select (condition-fix-hint error-location error-location?
                          fix-hint? location-column location-file location-line))
  #:use-module (guix records)
  #:use-module (ice-9 match)
  #:use-module (srfi srfi-1)
  #:use-module (srfi srfi-11)
  #:use-module (srfi srfi-34)
  #:use-module (srfi srfi-35)
  #:export (define-declaration
            define-located
            refuse-later)
  #:re-export (declaration?
               declaration-values))

;;; Commentary:
;;;
;;; A declaration is a Guix record that is written more freely: sizes and MAC
;;; addresses may be bare words, a field that holds another declaration takes its
;;; clauses directly, and every mistake is reported where it was made.
;;;
;;; 'define-declaration' defines a record as 'define-record-type*' does, and the macro
;;; that users write.  That expands to the record's constructor, so that 'inherit' and
;;; thunked fields work as in all of Guix.  A field may refer to an earlier one, too, but
;;; does not hide a variable that its user has.
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

(define (itself value)
  "Return VALUE.  Whatever is its argument is called, and not jumped to: the place of the call
is known when it fails."
  value)

(define (check-field check thunk field location)
  "Return what CHECK makes of the value of THUNK, for FIELD at LOCATION."
  (attempt (lambda ()
             (let ((value (thunk)))
               (if (refused? value)
                   value
                   (check value field location))))
           location))

(define (refuse-again location message hint)
  "Refuse when it is run what was refused when it was expanded."
  (attempt (lambda ()
             (refuse location message #:hint hint))))

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
clause in the declaration of NAME at the place WHOLE.  SPECS lists (FIELD CHECK STYLE
THUNKED?); LATER lists the fields to come."
  (define place
    (or (syntax-place form) whole))

  (define fields
    (map (compose car syntax->datum) specs))

  (define (invalid)
    (refuse (place->location place)
            (format #f "~a: '~a' is no field; expected (FIELD VALUE)"
                    name (spell (syntax->datum form)))
            #:hint (format #f "The fields are ~a." (field-list fields))))

  (define (checked field check value place)
    (let ((location (place->syntax place)))
      (list field
            #`(check-field #,check (lambda () (itself #,value)) '#,field #,location)
            location)))

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
            ((_ check (nested macro) _)
             (clauses? #'(value ...)
                       (clause-names (syntax->datum #'macro)))
             ;; Its own form in the file is this clause.
             (checked #'field #'check
                      #`(macro #:place #,(datum->syntax #'macro place)
                               value ...)
                      place))
            ((_ check style _)
             (= 1 (length #'(value ...)))
             (let ((value (car #'(value ...))))
               (checked #'field #'check
                        (expand-value form #'style value #'check)
                        (or (syntax-place value) place))))
            (_
             (invalid)))))))
    (_
     (invalid))))

(define (clause-field clause)
  "Return the name of the field that CLAUSE, syntax, is for, or #f."
  (syntax-case clause ()
    ((field . _) (syntax->datum #'field))
    (_ #f)))

(define (check-repetition name clause earlier)
  "Refuse CLAUSE, of a declaration of NAME, when one of the clauses EARLIER is for the same
field."
  (let ((field (clause-field clause)))
    (when (and field (memq field (map clause-field earlier)))
      (refuse (place->location (syntax-place clause))
              (format #f "~a: field '~a' is given twice" name field)))))

(define (expand-or-refuse expand)
  "Return what the thunk EXPAND returns, and #f; or #f, and syntax that raises again what
EXPAND raised, where an evaluation goes on after that: the expansion may be kept."
  (guard (c ((invalid-declaration? c)
             (attempt (lambda () (raise c)))
             (values #f
                     #`(refuse-again
                        #,(location->syntax (and (error-location? c)
                                                 (error-location c)))
                        #,(condition-message c)
                        #,(and (fix-hint? c) (condition-fix-hint c))))))
    (values (expand) #f)))

(define (expand-each-clause name clauses place specs later)
  "Return what 'expand-clause' returns for each of CLAUSES, and syntax that raises again
what was wrong with the others."
  (let loop ((clauses clauses)
             (earlier '())
             (fields  '())
             (refusals '()))
    (match clauses
      (() (values (reverse fields) (reverse refusals)))
      ((clause rest ...)
       (let-values (((field refusal)
                     (expand-or-refuse
                      (lambda ()
                        (check-repetition name clause earlier)
                        (expand-clause name clause place specs later)))))
         (loop rest
               (cons clause earlier)
               (if field (cons field fields) fields)
               (if refusal (cons refusal refusals) refusals)))))))

(define (missing-fields fields specs)
  "Return (FIELD VALUE LOCATION), with a refused value, for each of SPECS that is not among
FIELDS: any of them may have been misspelt, so nothing follows from its absence."
  (define given
    (map (compose syntax->datum car) fields))

  (filter-map (lambda (spec)
                (syntax-case spec ()
                  ((field _ _ _)
                   (not (memq (syntax->datum #'field) given))
                   (list #'field #'(make-refused) #'#f))
                  (_ #f)))
              specs))

(define (inherit? clause)
  (syntax-case clause ()
    ((head _)
     (eq? 'inherit (syntax->datum #'head)))
    (_ #f)))

(define (thunked? field specs)
  "Is the value of FIELD, a symbol, computed whenever it is asked for?"
  (any (lambda (spec)
         (syntax-case spec ()
           ((name _ _ thunked?)
            (eq? field (syntax->datum #'name))
            (syntax->datum #'thunked?))
           (_ #f)))
       specs))

(define (part-fields fields specs)
  "Return FIELDS, what 'expand-clause' returned for each clause, with names that differ
from all that users write: the record's constructor makes variables of them, which would
hide the user's from the fields after them."
  (define (own-name field)
    (datum->syntax #'part-fields (syntax->datum field)))

  (let loop ((fields fields)
             (earlier '()))
    (match fields
      (() '())
      (((field value location) rest ...)
       (let ((name (own-name field)))
         (cons (list name (refer-to-earlier value earlier) location)
               (loop rest
                     (if (thunked? (syntax->datum field) specs)
                         earlier
                         (cons (list field name) earlier)))))))))

(define (expand-clauses macro place clauses constructor predicate specs later)
  "Return the expansion of CLAUSES, the syntax of a declaration by MACRO at PLACE, to
a use of CONSTRUCTOR."
  (define name
    (syntax->datum macro))

  (let*-values (((inherited own)   (partition inherit? clauses))
                ((fields refusals) (expand-each-clause name own place specs later)))
    (with-syntax ((constructor constructor)
                  (((field value location) ...)
                   (part-fields (if (or (null? refusals) (pair? inherited))
                                    fields
                                    (append fields (missing-fields fields specs)))
                                specs))
                  ((refusal ...) refusals)
                  (whole (place->syntax place)))
      (define fields
        #'((field value) ...
           (places (list (cons 'field location) ... (cons #f whole)))))

      (syntax-case inherited ()
        (()
         #`(begin
             refusal ...
             (constructor #,@fields)))
        (((_ original))
         #`(let ((parent (check-original #,predicate '#,macro whole original)))
             refusal ...
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
             (format #f "~a: invalid syntax" (spell (syntax->datum form)))
             #:hint (and (identifier? form)
                         (format #f "Write (~a (FIELD VALUE) …).  Where it names a \
module of Guix's, as in use-service-modules, (use-modules (gnu)) has to come first."
                                 (syntax->datum form)))))))


;;;
;;; Definition.
;;;

(define (property-of field name)
  "Return the syntax of the value of the property NAME of FIELD, or that of #f."
  (syntax-case field ()
    ((_ _ property ...)
     (or (any (lambda (property)
                (syntax-case property ()
                  ((key value)
                   (eq? name (syntax->datum #'key))
                   #'value)
                  (_ #f)))
              #'(property ...))
         #'#f))))

(define (field->spec field)
  "Return (FIELD CHECK STYLE THUNKED?), as 'expand-clause' takes it."
  (syntax-case field ()
    ((name _ property ...)
     (list #'name (property-of field 'sanitize) (property-of field 'written)
           (->bool (member '(thunked) (syntax->datum #'(property ...))))))))

(define (field->record-field field)
  "Return FIELD with those of its properties that 'define-record-type*' knows."
  (define (ours? property)
    (syntax-case property ()
      ((key _) (memq (syntax->datum #'key) '(sanitize written)))
      (_ #f)))

  (syntax-case field ()
    ((name get property ...)
     #`(name get #,@(remove ours? #'(property ...))))))

(define-syntax define-declaration
  (lambda (form)
    "Define the record TYPE with its CONSTRUCTOR, MAKE, PREDICATE and THIS, as
'define-record-type*' does, the macro NAME that users write in place of CONSTRUCTOR,
and PLACE, which returns the <location> of a field of a record, or else of the record.

Two properties of a FIELD are ours.  (sanitize CHECK) gives its check, see (pyguixvm
sanitizers), which a value has to pass that a user writes.  (written STYLE) gives what
may be written beside an expression: 'bare-word', '(nested MACRO)' for a field that
takes the clauses of MACRO, another declaration, or '(names PREDICATE)' for one whose
values, which satisfy PREDICATE, may be listed by their names alone.

LATER-FIELDs are refused until there is something behind them."
    (syntax-case form (later)
      ((_ type name constructor make predicate this place
          (field get property ...) ...
          (later later-field ...))
       (with-syntax (((spec ...)
                      (map field->spec #'((field get property ...) ...)))
                     ((record-field ...)
                      (map field->record-field #'((field get property ...) ...))))
         #'(begin
             (define-record-type* type constructor make predicate this
               record-field ...
               (places places-of                  ;field -> <location>
                       (innate) (default '())))

             (define (place object asked)
               (place-of (places-of object) asked))

             (register-accessors! type (list (cons 'field get) ...))
             (eval-when (expand load eval)
               (register-fields! 'name '(field ...) '(later-field ...)))

             (define-syntax name
               (lambda (form)
                 (expand-declaration form #'constructor #'predicate
                                     #'(spec ...) '(later-field ...)))))))
      ((_ type name constructor make predicate this place clause ...)
       #'(define-declaration type name constructor make predicate this place
           clause ... (later))))))

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
                    (format #f "~a: expected ~s" (spell (syntax->datum form))
                            '(name argument ...))))))))))
