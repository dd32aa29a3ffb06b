;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm records shorthand)
  #:use-module (pyguixvm diagnostics)
  #:use-module (pyguixvm records fields)
  #:use-module (ice-9 match)
  #:use-module (srfi srfi-1)
  #:use-module (srfi srfi-34)
  #:use-module ((system syntax internal) #:select (syntax-local-binding))
  #:export (clauses?
            expand-value
            refer-to-earlier))

;;; Commentary:
;;;
;;; What may be written in a field instead of an expression: a bare word, the clauses of
;;; another declaration, names without 'list', or the name of a field before.  A variable
;;; or procedure of that name has precedence, be it defined later: that is known when the
;;; value is wanted.
;;;
;;; Code:

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

(define (hint-at-quotes word check field location)
  "Refuse the unbound variable WORD, all that is written for FIELD at LOCATION, if CHECK
takes it as a symbol or a string."
  (define (takes? value)
    (guard (c ((invalid-declaration? c) #f))
      (parameterize ((%attempt (lambda (thunk location refused) (thunk))))
        (check value field location)
        #t)))

  (let ((quoted (find takes? (list word (symbol->string word)))))
    (when quoted
      (refuse location
              (format #f "~a: ~a is not defined" field word)
              #:hint (format #f "Write (~a ~a)." field (describe quoted))))))

(define (expand-value form style value check)
  "Return syntax for VALUE, written in the clause FORM of a field of STYLE, whose values
pass CHECK."
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
    (_
     (and (identifier? value)
          (eq? 'global (syntax-local-binding value)))
     (syntax-case form ()
       ((field . _)
        #`(call-unless-unbound
           (lambda () #,value) '#,value
           (lambda ()
             (hint-at-quotes '#,value #,check 'field
                             #,(place->syntax (syntax-place value form)))
             #,value)))))
    (_ value)))

(define (refer-to-earlier value fields)
  "Return VALUE, syntax in which the name of one of FIELDS, (NAME VARIABLE) pairs, stands
for the VARIABLE, unless its user has a variable or a macro of that name."
  (define (mentioned? name form)
    (match form
      ((first . rest) (or (mentioned? name first) (mentioned? name rest)))
      (_ (eq? name form))))

  (define (wanted? field)
    (let ((name (car field)))
      (and (eq? 'global (syntax-local-binding name))
           (mentioned? (syntax->datum name) (syntax->datum value)))))

  (match (filter wanted? fields)
    (() value)
    (fields
     (with-syntax ((((name variable) ...) fields))
       #`(let ((name (call-unless-unbound (lambda () name) 'name
                                          (lambda () variable)))
               ...)
           #,value)))))
