;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm records)
  #:use-module (pyguixvm diagnostics)
  #:use-module (pyguixvm records expansion)
  #:use-module (pyguixvm records fields)
  #:use-module (guix records)
  #:use-module (srfi srfi-1)
  #:export (define-declaration
            define-located)
  #:re-export (declaration?
               declaration-values))

;;; Commentary:
;;;
;;; A declaration is a Guix record that is written more freely: sizes and MAC
;;; addresses may be bare words, a field that holds another declaration takes its
;;; clauses directly, and every mistake is reported where it was made.
;;;
;;; 'define-declaration' defines a record as 'define-record-type*' does, and the macro
;;; that users write.  That expands to the record's constructor, so that 'inherit' works as in
;;; all of Guix.  A field may refer to an earlier one, too, but does not hide a variable
;;; that its user has.
;;;
;;; Code:

(define (place-of places field)
  "Return the <location> of FIELD according to PLACES, as stored in a declaration,
else that of the declaration as a whole."
  (or (assq-ref places field)
      (assq-ref places #f)))

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
  "Return (FIELD CHECK STYLE REQUIRED?), as 'expand-clause' takes it."
  (define (given? property)
    (any (lambda (given)
           (syntax-case given ()
             ((key _) (eq? property (syntax->datum #'key)))
             (_ #f)))
         (syntax-case field ()
           ((_ _ given ...) #'(given ...)))))

  (syntax-case field ()
    ((name _ _ ...)
     (list #'name (property-of field 'sanitize) (property-of field 'written)
           (not (or (given? 'default) (given? 'otherwise)))))))

(define (stored-accessor field)
  "Return the identifier of the accessor of FIELD that returns what is stored."
  (syntax-case field ()
    ((_ get _ ...)
     (if (syntax->datum (property-of field 'otherwise))
         (datum->syntax #'get (symbol-append '% (syntax->datum #'get)))
         #'get))))

(define (field->record-field field)
  "Return FIELD with those of its properties that 'define-record-type*' knows."
  (define (ours? property)
    (syntax-case property ()
      ((key _) (memq (syntax->datum #'key) '(sanitize written otherwise)))
      (_ #f)))

  (syntax-case field ()
    ((name _ property ...)
     #`(name #,(stored-accessor field)
             #,@(if (syntax->datum (property-of field 'otherwise))
                    #'((default #f))
                    #'())
             #,@(remove ours? #'(property ...))))))

(define (field->accessor-definitions field)
  "Return the definition, in a list, of the accessor of FIELD, unless the record type
defines it."
  (syntax-case field ()
    ((_ get _ ...)
     (with-syntax ((stored    (stored-accessor field))
                   (otherwise (property-of field 'otherwise)))
       (if (syntax->datum #'otherwise)
           #'((define (get object)
                (or (stored object)
                    (otherwise object))))
           #'())))))

(define-syntax define-declaration
  (lambda (form)
    "Define the record TYPE with its CONSTRUCTOR, MAKE, PREDICATE and THIS, as
'define-record-type*' does, the macro NAME that users write in place of CONSTRUCTOR,
and PLACE, which returns the <location> of a field of a record, or else of the record.

Three properties of a FIELD are ours.  (sanitize CHECK) gives its check, see (pyguixvm
sanitizers), which a value has to pass that a user writes.  (written STYLE) gives what
may be written beside an expression: 'bare-word', '(nested MACRO)' for a field that
takes the clauses of MACRO, another declaration, or '(names PREDICATE)' for one whose
values, which satisfy PREDICATE, may be listed by their names alone.  (otherwise PROCEDURE)
has PROCEDURE tell the value of a record in which the field was left out: other fields of
it may be given after that one, or by another record that inherits from it.

LATER-FIELDs are refused until there is something behind them."
    (syntax-case form (later)
      ((_ type name constructor make predicate this place
          (field get property ...) ...
          (later later-field ...))
       (with-syntax (((spec ...)
                      (map field->spec #'((field get property ...) ...)))
                     ((record-field ...)
                      (map field->record-field #'((field get property ...) ...)))
                     ((accessor-definition ...)
                      (append-map field->accessor-definitions
                                  #'((field get property ...) ...))))
         #'(begin
             (define-record-type* type constructor make predicate this
               record-field ...
               (places places-of                  ;field -> <location>
                       (innate) (default '())))

             accessor-definition ...

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
