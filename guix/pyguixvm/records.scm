;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm records)
  #:use-module (pyguixvm diagnostics)
  #:use-module (guix utils)
  #:use-module (ice-9 match)
  #:use-module (srfi srfi-1)
  #:use-module (srfi srfi-11)
  #:use-module ((system syntax internal) #:select (syntax-local-binding))
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

(define (field-list fields)
  (string-join (map symbol->string fields) ", "))

(define (place->location place)
  (and place (apply source-location place)))

(define (place->syntax place)
  "Return syntax for an expression that makes the <location> of PLACE."
  (match place
    (#f #'#f)
    ((file line column) #`(source-location #,file #,line #,column))))


;;;
;;; The fields of each declaration.
;;;

(define %fields
  ;; Name of a declaration -> names of its fields, and of those to come.
  (make-hash-table))

(define (register-fields! name fields later)
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


;;;
;;; Run-time support.
;;;

(define (call-unless-unbound thunk symbol fallback)
  "Return what THUNK, a reference to the variable SYMBOL, returns; call FALLBACK
when the variable is unbound."
  (let ((unbound (list 'unbound)))
    (let ((value (catch 'unbound-variable
                   thunk
                   (lambda (key . args)
                     (match args
                       ((_ _ ((? (lambda (name) (eq? name symbol)))) _ ...)
                        unbound)
                       (_ (apply throw key args)))))))
      (if (eq? value unbound)
          (fallback)
          value))))

(define (refuse-field name field allowed location)
  "Refuse FIELD in a declaration of NAME, whose fields are ALLOWED."
  (refuse location
          (format #f "~a: unknown field '~a'; the fields are ~a"
                  name field (field-list allowed))
          #:hint (match (declarations-with field)
                   (()
                    (and=> (string-closest (symbol->string field)
                                           (map symbol->string allowed)
                                           #:threshold 3)
                           (lambda (closest)
                             (format #f "Did you mean '~a'?" closest))))
                   ((other . _)
                    (format #f "'~a' is a field of ~a." field other)))))

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

(define (bare-word? value)
  "Is the syntax object VALUE an identifier that looks like a size or MAC address
and has no meaning in its lexical scope?"
  (and (identifier? value)
       (let ((str (symbol->string (syntax->datum value))))
         (or (char-set-contains? char-set:digit (string-ref str 0))
             (string-index str #\:)
             (string-prefix? "-" str)))
       (eq? 'global (syntax-local-binding value))))

(define (operator-reference form)
  "Return the operator of FORM when it is a reference to a global variable, else
#f."
  (syntax-case form ()
    ((head . _)
     (and (identifier? #'head)
          (eq? 'global (syntax-local-binding #'head)))
     #'head)
    (_ #f)))

(define (names? form)
  "Is FORM a list of references to variables, the first of them a global one?"
  (syntax-case form ()
    ((head name ...)
     (and (operator-reference form)
          (every identifier? #'(name ...)))
     #t)
    (_ #f)))

(define (clauses? forms names)
  "Are FORMS, what follows the name of a field, clauses of another declaration,
which start with one of NAMES, rather than one expression?"
  (match forms
    (() #t)
    ((form)
     (syntax-case form ()
       ((head . _)
        (identifier? #'head)
        (memq (syntax->datum #'head) names))
       (_ #f)))
    (_ #t)))

(define (expand-value form style value)
  "Return syntax for VALUE, written in the clause FORM of a field of STYLE."
  (syntax-case style (bare-word nested names)
    (bare-word
     (bare-word? value)
     #`(call-unless-unbound (lambda () #,value) '#,value
                            (lambda () '#,value)))
    ((nested macro)
     (operator-reference value)
     ;; Either a call of the user's procedure, or a misspelt clause.
     (let ((head (operator-reference value)))
       #`(begin
           (call-unless-unbound (lambda () #,head) '#,head
                                (lambda ()
                                  (refuse-field 'macro '#,head
                                                (declared-fields 'macro)
                                                #,(place->syntax
                                                   (syntax-place value form)))))
           #,value)))
    ((names predicate)
     (names? value)
     ;; Either a call of the user's procedure, or a list without 'list'.
     (with-syntax (((first rest ...) value))
       #'(if (predicate first)
             (list first rest ...)
             (first rest ...))))
    (_ value)))

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
