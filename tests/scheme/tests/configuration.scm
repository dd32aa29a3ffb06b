;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (tests configuration)
  #:use-module (pyguixvm evaluator evaluation)
  #:use-module (guix utils)
  #:use-module (ice-9 match)
  #:use-module (json)
  #:use-module (srfi srfi-1)
  #:use-module (srfi srfi-64)
  #:export (call-with-configuration
            evaluate-text
            evaluate-machine
            ref
            error-of
            test-refusals))

;;; Commentary:
;;;
;;; Evaluating configurations that are written in the tests.
;;;
;;; Code:

(define %prelude
  ;; Line 1; the text of a test starts at line 2.
  "(use-modules (tests systems))\n")

(define (call-with-configuration text proc)
  "Call PROC with the name of a configuration file that holds TEXT."
  (call-with-temporary-directory
   (lambda (directory)
     (let ((file (string-append directory "/config.scm")))
       (call-with-output-file file
         (lambda (port)
           (display %prelude port)
           (display text port)))
       (proc file)))))

(define* (evaluate-text text #:rest options)
  "Return the JSON that the configuration TEXT evaluates to, as Python will see it."
  (call-with-configuration text
    (lambda (file)
      (json-string->scm
       (scm->json-string (apply evaluate file options))))))

(define (ref json . keys)
  "Return what KEYS, names and indices, lead to in JSON."
  (fold (lambda (key json)
          (if (integer? key)
              (vector-ref json key)
              (match (assoc key json)
                ((_ . value) value)
                (#f (error "no such key" key json)))))
        json
        keys))

(define (evaluate-machine clauses)
  "Return the JSON of the machine with CLAUSES, a string."
  (ref (evaluate-text (string-append "(virtual-machine " clauses ")"))
       "deployment" "machines" 0))

(define (error-of json)
  "Return the error in JSON as its kind, \"LINE:COLUMN\" or #f, and its message."
  (list (ref json "error" "kind")
        (match (ref json "error" "location")
          ('null #f)
          (location (format #f "~a:~a" (ref location "line")
                            (ref location "column"))))
        (ref json "error" "message")))

(define* (test-refusals kind cases #:key (wrap identity) (column 0))
  "Test that each of CASES, wrapped by WRAP at COLUMN of line 2, is refused as KIND."
  (for-each
   (match-lambda
     ((text place words ...)
      (match (error-of (evaluate-text (wrap text)))
        ((actual-kind actual-place message)
         (test-equal text
           (list kind
                 (match place
                   ((line . offset)
                    (format #f "~a:~a" line
                            (if (= line 2) (+ column offset) offset)))
                   (offset
                    (format #f "2:~a" (+ column offset))))
                 #t)
           (list actual-kind actual-place
                 (every (lambda (word)
                          (or (->bool (string-contains message word))
                              message))
                        words)))))))
   cases))
