;;; SPDX-License-Identifier: GPL-3.0-or-later

;; Errors that Guile and Guix find: their kinds, places and words.

(use-modules (tests configuration)
             (pyguixvm evaluator evaluation)
             (ice-9 match)
             (srfi srfi-64))

(define (test-errors . cases)
  (for-each (match-lambda
              ((text expected ...)
               (test-equal text expected
                           (error-of (evaluate-text text #:want 'systems)))))
            cases))

(test-begin "errors")

(test-errors
 '("(operating-system (inherit %os) (services (list))"
   "syntax" "2:50" "missing closing parenthesis")
 '("(list \"abc)"
   "syntax" "2:12" "unexpected end of input while reading string")
 '("(operating-system (inherit %os)\n (foo 1))"
   "syntax" "2:0" "(operating-system (inherit %os) (foo 1)): extraneous field \
initializers (foo)")
 '("(operating-system (host-name \"a-name-that-makes-this-form-long\") (timezone \"x\"))"
   "syntax" "2:0" "operating-system: missing field initializers (bootloader \
file-systems)")
 '("(let ((x 1) (y)) x)"
   "syntax" "2:0" "(let ((x 1) (y)) x): bad let")
 '("(define (f)\n  (not-defined-anywhere 5))\n(f)"
   "unbound-variable" "3:3" "not-defined-anywhere: unbound variable")
 '("(define (f)\n  (+ 1 (car 5)))\n(f)"
   "exception" "3:7" "In procedure car: Wrong type (expecting pair): 5")
 '("(error \"bad thing\" 42)"
   "exception" "2:0" "bad thing 42")
 '("(exit 3)"
   "exception" "2:0" "the configuration called 'exit'")
 '("(use-modules (does not exist))"
   "exception" #f "no code for module (does not exist)"))

(test-group "what Guix raises"
  (test-errors
   '("(use-modules (guix diagnostics) (guix i18n) (srfi srfi-34))
(raise (formatted-message (G_ \"oh ~a\") 5))"
     "guix" "3:0" "oh 5")
   '("(use-modules (guix diagnostics) (srfi srfi-34) (srfi srfi-35))
(raise (condition (&error-location (location (location \"/f.scm\" 1 2)))
                  (&message (message \"no way\"))))"
     "guix" "1:2" "no way")
   ;; Guix prints it and exits.
   '("(use-modules (guix diagnostics) (guix i18n))\n(leave (G_ \"not ~a~%\") 5)"
     "guix" #f "not 5")
   '("(use-modules (guix diagnostics) (guix i18n))
(leave (location \"/f.scm\" 1 2) (G_ \"not ~a~%\") 5)"
     "guix" "1:2" "not 5")
   '("(operating-system (inherit %os) (services '()))"
     "guix" "2:0" "service 'file-system-/dev/pts' requires 'udev', which is not \
provided by any service"))

  (test-equal "a hint"
    "Use `that'."
    (ref (evaluate-text
          "(use-modules (guix diagnostics) (srfi srfi-34) (srfi srfi-35))
(raise (condition (&message (message \"no way\"))
                  (&fix-hint (hint \"Use @code{that}.\"))))")
         "error" "hint"))

  (test-equal "the module to import"
    "Did you forget (use-modules (gnu services base))?"
    (ref (evaluate-text "%base-services") "error" "hint")))

(test-equal "a file that is not there"
  '("validation" #f "cannot read '/nonexistent.scm': No such file or directory")
  (error-of (evaluate "/nonexistent.scm")))

(test-equal "an empty file"
  '("validation" "1:0" "the file is empty")
  (call-with-configuration ""
    (lambda (file)
      (truncate-file file 0)
      (error-of (evaluate file)))))

(test-end "errors")
