;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm evaluator findings)
  #:use-module (pyguixvm diagnostics)
  #:use-module (pyguixvm evaluator failure)
  #:use-module (pyguixvm evaluator forms)
  #:use-module (pyguixvm evaluator handling)
  #:use-module (pyguixvm json)
  #:use-module (guix diagnostics)
  #:use-module (srfi srfi-1)
  #:use-module (srfi srfi-9)
  #:use-module (srfi srfi-26)
  #:export (findings-failures
            call-with-findings
            findings->json))

;;; Commentary:
;;;
;;; All that is wrong with a configuration, rather than the first of it; and what it is
;;; warned of.
;;;
;;; Code:

(define-record-type <findings>
  (make-findings file failures warnings)
  findings?
  (file     findings-file)                        ;absolute file name
  (failures findings-failures set-findings-failures!)    ;list of <failure>
  (warnings findings-warnings set-findings-warnings!))   ;likewise

(define (consequence? failure earlier)
  "Is FAILURE about the value that stands for one which was refused by one of EARLIER?"
  (and (pair? earlier)
       (string-contains (failure-message failure) "<refused>")))

(define (note-failure! findings failure)
  (let ((earlier (findings-failures findings)))
    (unless (or (member failure earlier) (consequence? failure earlier))
      (set-findings-failures! findings (cons failure earlier)))))

(define (note-warning! findings warning)
  (let ((earlier (findings-warnings findings)))
    (unless (member warning earlier)
      (set-findings-warnings! findings (cons warning earlier)))))

(define (call-with-findings file proc)
  "Call PROC with new findings about FILE, the absolute name of a configuration, which are
filled meanwhile.  Return its value, and the findings; what it raises is among them."
  (define findings
    (make-findings file '() '()))

  (define (call thunk location refused)
    (let ((value (call-with-failure-handling thunk #:location location)))
      (if (failure? value)
          (begin
            (note-failure! findings value)
            (refused))
          value)))

  (parameterize ((%attempt call)
                 (%warn (lambda (location message hint)
                          (note-warning! findings
                                         (make-failure 'warning message hint
                                                       location)))))
    (let ((value (attempt (lambda () (proc findings)) loaded-form-location)))
      (values value findings))))


;;;
;;; Telling them.
;;;

(define (sort-by-place findings failures)
  "Return FAILURES in the order of their places: those in the configuration first, those
without a place last."
  (define (key failure)
    (let ((location (failure-location failure)))
      (cond ((not location) '(2 "" 0 0))
            (else
             (list (if (string=? (findings-file findings) (location-file location)) 0 1)
                   (location-file location)
                   (location-line location)
                   (location-column location))))))

  (define (less? one other)
    (let loop ((one one) (other other))
      (cond ((null? one) #f)
            ((equal? (car one) (car other)) (loop (cdr one) (cdr other)))
            ((string? (car one)) (string<? (car one) (car other)))
            (else (< (car one) (car other))))))

  (stable-sort (reverse failures)
               (lambda (one other)
                 (less? (key one) (key other)))))

(define (findings->json findings)
  "Return the JSON of FINDINGS: the key 'errors', and 'error' for the first of them, if
there are any; and 'warnings'."
  (define (all failures)
    (map failure->json-object (sort-by-place findings failures)))

  (let ((errors (all (findings-failures findings))))
    `(,@(if (null? errors)
            '()
            `(("error" . ,(first errors))
              ("errors" . ,(list->vector errors))))
      ("warnings" . ,(list->vector (map (cut alist-delete "kind" <>)
                                        (all (findings-warnings findings))))))))
