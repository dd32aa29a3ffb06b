;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm evaluator clashes)
  #:use-module (pyguixvm diagnostics)
  #:use-module (pyguixvm evaluator failure)
  #:use-module (pyguixvm records fields)
  #:use-module (guix diagnostics)
  #:use-module (ice-9 match)
  #:use-module (srfi srfi-1)
  #:use-module (srfi srfi-9)
  #:use-module ((system syntax internal) #:select (syntax?))
  #:export (note-uses!
            explain-clash))

;;; Commentary:
;;;
;;; Our names where they mean something else: (gnu system vm) has a 'virtual-machine' of its
;;; own, (guix build syscalls) a 'mount-point', and a module that does not import (pyguixvm)
;;; has neither.  What goes wrong then is about anything but that, so that an error inside
;;; such a use is told as one of the name.
;;;
;;; Code:

(define-record-type <use>
  (make-use name owner location inside)
  use?
  (name     use-name)                  ;symbol
  (owner    use-owner)                 ;name of the module whose NAME it is | #f: of none
  (location use-location)              ;<location>
  (inside   use-inside))               ;list of <location>s

(define %uses
  ;; The uses of our names that were loaded and do not mean ours, the last one first.
  '())

(define (interface)
  (resolve-interface '(pyguixvm)))

(define (imports module variable name)
  "Return the interface among the uses of MODULE that has VARIABLE as NAME, or #f."
  (find (lambda (used)
          (eq? variable (module-variable used name)))
        (module-uses module)))

(define (ours-imported? module)
  (any (lambda (used)
         (equal? '(pyguixvm) (module-name used)))
       (module-uses module)))

(define (other-meaning module name)
  "Return what NAME, one of ours, means in MODULE: the name of another module that MODULE
has it of, 'none, or #f for ours or one of MODULE's own."
  (let ((variable (module-variable module name)))
    (cond ((not variable) 'none)
          ((eq? variable (module-variable (interface) name)) #f)
          ((module-local-variable module name)
           (if (variable-bound? variable) #f 'none))
          (else
           (and (ours-imported? module)
                (and=> (imports module variable name) module-name))))))

(define (with-our-clause? name clauses)
  "Has one of CLAUSES, data, the name of a field of our declaration NAME?"
  (any (match-lambda
         (((? symbol? field) . _) (memq field (declared-fields name)))
         (_ #f))
       clauses))

(define (ours? name arguments)
  "Is (NAME ARGUMENTS ...), data, meant to be one of ours?"
  (and (module-variable (interface) name)
       (if (null? (declared-fields name))
           (not (null? arguments))
           (with-our-clause? name arguments))))

(define (subforms form)
  "Return the elements of FORM, syntax; none if it is no list."
  (syntax-case form ()
    ((element ...) #'(element ...))
    (_ '())))

(define (places form)
  "Return the <location>s of FORM, syntax, and of all that is in it."
  (let ((location (and (syntax? form)           ;not the 'quote' of "'"
                       (place->location (syntax-place form))))
        (inside   (append-map places (subforms form))))
    (if location (cons location inside) inside)))

(define (note-uses! form module)
  "Take note of the uses of our names in FORM, syntax that is to be evaluated in MODULE."
  (define (note-use! name)
    (let ((meaning  (other-meaning module name))
          (location (place->location (syntax-place form))))
      (when (and meaning location)
        (set! %uses
              (cons (make-use name (and (not (eq? 'none meaning)) meaning)
                              location (places form))
                    %uses)))))

  (match (map syntax->datum (subforms form))
    (((? symbol? name) arguments ...)
     (when (ours? name arguments)
       (note-use! name)))
    (_ #t))
  (for-each (lambda (form)
              (note-uses! form module))
            (subforms form)))

(define (explain-clash failure)
  "Return FAILURE, or what it means if it lies in a use of one of our names that was not
ours there."
  (match (find (lambda (use)
                 (member (failure-location failure) (use-inside use)))
               %uses)
    (#f failure)
    (use
     (let ((name (use-name use)))
       (match (use-owner use)
         (#f
          (make-failure 'unbound-variable
                        (format #f "~a: unbound variable" name)
                        "Did you forget (use-modules (pyguixvm))?"
                        (use-location use)))
         (owner
          (make-failure (failure-kind failure)
                        (format #f "~a is here that of ~a, not of (pyguixvm): ~a"
                                name owner (failure-message failure))
                        (format #f "Import it without: (use-modules (~a #:hide (~a))); or \
write ~a, which is the same as (pyguixvm)'s ~a."
                                owner name (unclashing-name name) name)
                        (use-location use))))))))

(define (unclashing-name name)
  "Return the other name under which (pyguixvm) exports NAME."
  (let ((variable (module-variable (interface) name)))
    (or (find (lambda (other)
                (and other (not (eq? name other))))
              (module-map (lambda (other candidate)
                            (and (eq? variable candidate) other))
                          (interface)))
        name)))
