;;; SPDX-License-Identifier: GPL-3.0-or-later

(use-modules (ice-9 ftw)
             (ice-9 match)
             (srfi srfi-1)
             (srfi srfi-26)
             (srfi srfi-64))

(define %directory
  (dirname (canonicalize-path (car (program-arguments)))))

(define %names
  (map (cut basename <> ".scm")
       (scandir (string-append %directory "/cases")
                (cut string-suffix? ".scm" <>))))

(define (report-failure runner)
  (let ((result (lambda (key)
                  (test-result-ref runner key '-))))
    (when (memq (test-result-kind runner) '(fail xpass))
      (format #t "FAIL: ~a: ~a~%  expected: ~s~%  actual:   ~s~%  error:    ~s~%"
              (string-join (test-runner-group-path runner) "/")
              (test-runner-test-name runner)
              (result 'expected-value) (result 'actual-value)
              (result 'actual-error)))))

(define (run name)
  "Run the tests in the file NAME and return how many passed, and did not."
  (let ((runner (test-runner-null)))
    (test-runner-on-test-end! runner report-failure)
    (test-with-runner runner
      (primitive-load (string-append %directory "/cases/" name ".scm")))
    (let ((passed (test-runner-pass-count runner))
          (failed (+ (test-runner-fail-count runner)
                     (test-runner-xpass-count runner))))
      (format #t "~a: ~a passed, ~a failed~%" name passed failed)
      (list passed failed))))

(match (map run (match (program-arguments)
                  ((_) %names)
                  ((_ names ...) names)))
  (((passed failed) ...)
   (format #t "~a passed, ~a failed~%" (reduce + 0 passed) (reduce + 0 failed))
   ;; No test at all is no success.
   (exit (and (every zero? failed)
              (every positive? passed)))))
