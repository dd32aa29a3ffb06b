;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm diagnostics)
  #:use-module (guix diagnostics)
  #:use-module (guix i18n)
  #:use-module (ice-9 match)
  #:use-module (ice-9 regex)
  #:use-module (srfi srfi-1)
  #:use-module (srfi srfi-9)
  #:use-module (srfi srfi-34)
  #:use-module (srfi srfi-35)
  #:export (&invalid-declaration
            invalid-declaration?
            %attempt
            %warn
            absolute-source-file
            attempt
            caution
            describe
            location->syntax
            make-refused
            place->location
            place->syntax
            refuse
            refuse-repeated
            refused?
            shorten
            source-location
            spell
            syntax-place))

;;; Commentary:
;;;
;;; How a declaration that makes no sense is refused: with a sentence, a place
;;; in the user's file and, where we know one, a way out.  The conditions are
;;; Guix's own, so that 'guix repl' and friends print them well too;
;;; '&invalid-declaration' merely tells our rules from Guix's.
;;;
;;; Code:

(define-condition-type &invalid-declaration &error
  invalid-declaration?)

(define* (refuse location message #:key hint)
  "Raise an error that says MESSAGE about LOCATION, a <location> or #f.  HINT is
plain text that says what to do, or #f."
  (raise (apply make-compound-condition
                (condition (&invalid-declaration))
                (condition (&message (message message)))
                (append (if location
                            (list (condition
                                   (&error-location (location location))))
                            '())
                        (if hint
                            (list (condition (&fix-hint (hint hint))))
                            '())))))

(define (refuse-repeated items describe)
  "Refuse the first among ITEMS, (VALUE . LOCATION) pairs, whose VALUE occurred
before.  DESCRIBE makes a sentence of that VALUE."
  (let loop ((items items)
             (seen '()))
    (match items
      (() #t)
      (((value . location) rest ...)
       (match (assoc value seen)
         (#f
          (loop rest (alist-cons value location seen)))
         ((_ . earlier)
          (refuse location
                  (string-append (describe value)
                                 (if (and earlier (not (equal? earlier location)))
                                     (string-append ", first at "
                                                    (location->string earlier))
                                     "")))))))))

;; What stands for a value that was refused, where an evaluation goes on.
(define-record-type <refused>
  (make-refused)
  refused?)

(define %attempt
  ;; How the thunk of 'attempt' is called: whoever wants to know all that is wrong keeps
  ;; what is raised, and returns the value of the thunk that it is given along.
  (make-parameter (lambda (thunk location refused)
                    (thunk))))

(define* (attempt thunk #:optional location)
  "Return the value of THUNK.  What it raises may be reported, at LOCATION if it names no
place, without ending the evaluation; then the value satisfies 'refused?'."
  ((%attempt) thunk location make-refused))

(define %warn
  ;; Who gets the warnings.
  (make-parameter (lambda (location message hint)
                    (warning location (G_ "~a~%") message))))

(define* (caution location message #:key hint)
  "Tell the user MESSAGE, about something at LOCATION, a <location> or #f, that may be
meant but seldom is.  HINT says what to write instead, or is #f."
  ((%warn) location message hint))

(define (spell datum)
  "Return DATUM as it is written, with symbols such as 64M as people write them."
  (regexp-substitute/global #f "#\\{([^}\\]*)\\}#" (object->string datum)
                            'pre 1 'post))

(define (shorten str)
  "Return STR, or its beginning when it is long."
  (if (> (string-length str) 60)
      (string-append (string-take str 57) "...")
      str))

(define (describe value)
  "Return VALUE as its user would have written it, or the name of its type
for a record that is not printed so."
  (let ((str (spell value)))
    (cond ((symbol? value)
           (string-append "'" str))
          ((and (record? value) (string-prefix? "#<" str))
           (object->string (record-type-name (record-type-descriptor value))))
          (else (shorten str)))))

(define (absolute-source-file file)
  "Return the absolute name of FILE, which Guile may have recorded relatively to
the load path."
  (if (string-prefix? "/" file)
      file
      (or (search-path %load-path file)
          (string-append (getcwd) "/" file))))

(define (source-location file line column)
  "Return the <location> of LINE and COLUMN, both counted from 0, of FILE."
  (location (absolute-source-file file) (+ 1 line) column))

(define (syntax-place . candidates)
  "Return the file, line, and column, as a list, of the first among the syntax
objects CANDIDATES that has them, or #f."
  (let loop ((candidates candidates))
    (if (null? candidates)
        #f
        (let* ((source (or (syntax-source (car candidates)) '()))
               (file   (assq-ref source 'filename))
               (line   (assq-ref source 'line))
               (column (assq-ref source 'column)))
          (if (and file line column)
              (list file line column)
              (loop (cdr candidates)))))))

(define (place->location place)
  "Return the <location> of PLACE, as 'syntax-place' returns it."
  (and place (apply source-location place)))

(define (place->syntax place)
  "Return syntax for an expression that makes the <location> of PLACE."
  (match place
    (#f #'#f)
    ((file line column) #`(source-location #,file #,line #,column))))

(define (location->syntax location)
  "Return syntax for an expression that makes LOCATION, a <location> or #f."
  (place->syntax (and location
                      (list (location-file location)
                            (- (location-line location) 1)
                            (location-column location)))))
