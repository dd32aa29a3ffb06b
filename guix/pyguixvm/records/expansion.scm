;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm records expansion)
  #:use-module (pyguixvm diagnostics)
  #:use-module (pyguixvm records fields)
  #:use-module (pyguixvm records shorthand)
  #:use-module ((guix diagnostics)
                #:select (condition-fix-hint error-location error-location?
                          fix-hint?))
  #:use-module (ice-9 match)
  #:use-module (srfi srfi-1)
  #:use-module (srfi srfi-11)
  #:use-module (srfi srfi-34)
  #:use-module (srfi srfi-35)
  #:export (expand-declaration))

;;; Commentary:
;;;
;;; From a declaration, as users write it, to a use of its record's constructor: each value
;;; is checked where it stands, and every mistake is reported, not only the first.
;;;
;;; Code:


;;;
;;; Run-time support.
;;;

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


;;;
;;; Expansion.
;;;

(define (expand-clause name form whole specs later)
  "Return the field, the syntax of its value, and that of its <location> for FORM, a
clause in the declaration of NAME at the place WHOLE.  SPECS lists (FIELD CHECK STYLE
REQUIRED?); LATER lists the fields to come."
  (define place
    (or (syntax-place form) whole))

  (define fields
    (map (compose car syntax->datum) specs))

  (define written
    (shorten (spell (syntax->datum form))))

  (define (invalid)
    (refuse (place->location place)
            (format #f "~a: '~a' is no field; expected (FIELD VALUE)" name written)
            #:hint (format #f "The fields are ~a." (field-list fields))))

  (define (without-one-value field values)
    (refuse (place->location place)
            (format #f "~a: field '~a' takes one value, and '~a' has ~a"
                    name field written (length values))))

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
             (without-one-value symbol #'(value ...))))))))
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

(define (clause? form)
  "Is FORM, syntax, written as a clause?"
  (syntax-case form ()
    ((field . _) (identifier? #'field))
    (_ #f)))

(define (expand-or-refuse form expand)
  "Return what the thunk EXPAND returns for FORM, and #f; or #f, and syntax that raises again
what EXPAND raised, where an evaluation goes on after that: the expansion may be kept."
  (guard (c ((invalid-declaration? c)
             ;; What is no clause at all may be the value of a field of our macro's name,
             ;; in a record whose own name is unbound: that is to be told, and not this.
             (when (clause? form)
               (attempt (lambda () (raise c))))
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
                      clause
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

(define (refuse-missing name place fields)
  "Return syntax for the refusals of a declaration of NAME at PLACE without the required
FIELDS."
  (map (lambda (field)
         (let-values (((_ refusal)
                       (expand-or-refuse
                        #'(field)
                        (lambda ()
                          (refuse (place->location place)
                                  (format #f "~a: field '~a' is missing" name field)
                                  #:hint (format #f "Add (~a VALUE)." field))))))
           refusal))
       fields))

(define (required fields specs)
  "Return the names of those of SPECS that are required, and not among FIELDS."
  (filter-map (lambda (spec)
                (match (syntax->datum spec)
                  ((field _ _ #t) (and (not (memq field (map (compose syntax->datum car)
                                                             fields)))
                                       field))
                  (_ #f)))
              specs))

(define (inherit? clause)
  (syntax-case clause ()
    ((head _)
     (eq? 'inherit (syntax->datum #'head)))
    (_ #f)))

(define (part-fields fields)
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
                     (cons (list field name) earlier))))))))

(define (expand-clauses macro place clauses constructor predicate specs later)
  "Return the expansion of CLAUSES, the syntax of a declaration by MACRO at PLACE, to
a use of CONSTRUCTOR."
  (define name
    (syntax->datum macro))

  (let*-values (((inherited own)   (partition inherit? clauses))
                ((fields refusals) (expand-each-clause name own place specs later))
                ((refusals)        (if (or (pair? refusals) (pair? inherited))
                                       refusals
                                       (refuse-missing name place
                                                       (required fields specs)))))
    (with-syntax ((constructor constructor)
                  (((field value location) ...)
                   (part-fields (if (or (null? refusals) (pair? inherited))
                                    fields
                                    (append fields (missing-fields fields specs)))))
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
