;;; SPDX-License-Identifier: GPL-3.0-or-later

;; Which objects are lowered once for all that are like them.

(use-modules (pyguixvm evaluator likeness)
             (gnu packages base)
             (guix gexp)
             (ice-9 match)
             (srfi srfi-1)
             (srfi srfi-64)
             (system base compile))

(define (private name)
  (variable-ref (module-variable (resolve-module '(guix gexp)) name)))

(define (fresh)
  (make-representative (map private '(<gexp> <gexp-input> <gexp-output> <computed-file> <plain-file>
                                      <file-append>))
                       #:ignored '(location)))

(define (alike? one other)
  (let ((representative (fresh)))
    (eq? (representative one) (representative other))))

;; Each makes its object anew, as the procedures of services do, which are compiled once.
(define make
  (compile
   '(begin
      (use-modules (guix gexp) (gnu packages base))
      (lambda* (#:key (name "file") (value 1) (package hello) (options '(#:local-build? #t)))
        (computed-file name
                       #~(begin
                           #$(plain-file "text" "text")
                           #$(file-append package "/bin")
                           #$@(map (lambda (number) #~(list #$number '#$value)) (iota 3))
                           (mkdir #$output))
                       #:options options)))
   #:env (make-fresh-user-module)))

(test-begin "likeness")

(test-assert "made of the same values by the same code"
  (alike? (make) (make)))

(test-assert "strings and lists by their content"
  (alike? (make #:name (string-copy "name") #:value (list 1 (string #\a)))
          (make #:name (string-copy "name") #:value (list 1 (string #\a)))))

(for-each
 (match-lambda
   ((what . arguments)
    (test-assert (string-append "another " what)
      (not (alike? (make) (apply make arguments))))))
 `(("name"    #:name "other")
   ("value"   #:value 2)
   ("type of value" #:value "1")
   ("exactness" #:value 1.)
   ("list"    #:value (1 2 . 3))
   ("package" #:package ,sed)
   ("options" #:options (#:local-build? #f))))

(test-assert "other code"
  (not (alike? (computed-file "file" #~(mkdir #$output))
               (computed-file "file" #~(begin (mkdir #$output))))))

(test-assert "the same words, compiled twice"
  (let ((code '(begin (use-modules (guix gexp)) (computed-file "a" #~(mkdir #$output)))))
    (not (alike? (compile code #:env (make-fresh-user-module))
                 (compile code #:env (make-fresh-user-module))))))

(test-assert "other modules"
  (let ((with (lambda (modules)
                (with-imported-modules modules #~(mkdir #$output)))))
    (not (alike? (with '((guix build utils))) (with '((guix build union)))))))

(test-assert "files that may change are nothing but themselves"
  (let* ((file (lambda () (local-file "likeness.scm")))
         (one  (file)))
    (and (not (alike? (make #:package one) (make #:package (file))))
         (alike? (make #:package one) (make #:package one)))))

(test-assert "so is what holds something that may change"
  (let ((vector (vector 1)))
    (not (alike? (make #:value vector) (make #:value vector)))))

(test-assert "a string that is changed afterwards does not count as what it was"
  (let* ((representative (fresh))
         (name           (string #\a))
         (first          (representative (make #:name name))))
    (string-set! name 0 #\b)
    (and (not (eq? first (representative (make #:name (string #\b)))))
         (eq? first (representative (make #:name (string #\a)))))))

(test-assert "a pair is no object"
  (let ((type (private '<plain-file>)))
    (not (alike? (make #:value (list (plain-file "a" "b")))
                 (make #:value (list (cons* '() "b" "a" type)))))))

(test-assert "what is of no known type is what it is"
  (let ((file (local-file "likeness.scm")))
    (eq? file ((fresh) file))))

(test-end "likeness")
