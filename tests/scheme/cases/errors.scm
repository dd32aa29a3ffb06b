;;; SPDX-License-Identifier: GPL-3.0-or-later

;; Errors that Guile and Guix find: their kinds, places and words.

(use-modules (tests configuration)
             (pyguixvm evaluator evaluation)
             (ice-9 binary-ports)
             (ice-9 match)
             (rnrs bytevectors)
             (srfi srfi-1)
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
   "exception" "2:0" "no code for module (does not exist)"))

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
     "guix" "3:0" "not 5")
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

(define (error+hint text)
  (let ((json (evaluate-text text)))
    (append (cdr (error-of json))
            (list (ref json "error" "hint")))))

(define-syntax-rule (test-hints (text place message hint) ...)
  (begin
    (test-equal text (list place message hint) (error+hint text)) ...))

(define %bare
  "A size or an address without quotes may stand directly in its field only; write ")

(test-group "quotes that are missing"
  (test-hints
   ("(virtual-machine (operating-system %os) (name web))"
    "2:46" "name: web is not defined" "Write (name \"web\").")
   ("(virtual-machine (operating-system %os) (libvirt-domain (firmware uefi)))"
    "2:66" "firmware: uefi is not defined" "Write (firmware 'uefi).")
   ("(virtual-machine (operating-system %os)
 (libvirt-domain (kernel-arguments (\"console=ttyS0\"))))"
    "3:35" "\"console=ttyS0\" is called, but is no procedure"
    "A list of values is written '(\"console=ttyS0\" …) or (list \"console=ttyS0\" …).")
   ("(virtual-machine (operating-system nowhere))"
    "2:35" "nowhere: unbound variable" "Did you forget a 'use-modules' form?")))

(test-group "words in an expression"
  (test-hints
   ("(virtual-machine (operating-system %os)\n (libvirt-domain (memory (if #t 4G 2G))))"
    "3:32" "4G: unbound variable" (string-append %bare "\"4G\"."))))

(test-equal "words that are no field"
  "libvirt-domain: field 'memory' takes one value, and '(memory 4G 5G)' has 2"
  (third (error-of (evaluate-text "(virtual-machine (operating-system %os)
 (libvirt-domain (memory 4G 5G)))"))))

(test-equal "a required field that is missing"
  '("validation" "3:24" "data-disk: field 'size' is missing")
  (error-of (evaluate-text "(virtual-machine (operating-system %os)
 (libvirt-domain (disks (data-disk (name \"a\")))))")))

(test-equal "a misplaced field"
  "'ready-timeout' is a field of virtual-machine: is a parenthesis in the wrong place?"
  (ref (evaluate-text "(virtual-machine (operating-system %os))\n(ready-timeout 300)")
       "error" "hint"))

(for-each
 (match-lambda
   ((text place words ...)
    (match (ref (evaluate-text text) "error")
      (error
       (test-equal text
         (list place (make-list (length words) #t))
         (list (format #f "~a:~a" (ref error "location" "line")
                       (ref error "location" "column"))
               (map (lambda (word)
                      (->bool (or (string-contains (ref error "message") word)
                                  (string-contains (ref error "hint") word))))
                    words)))))))
 '(("(use-modules (gnu system vm))
(virtual-machine (operating-system %os) (libvirt-domain (cpu 2)))"
    "3:0" "virtual-machine is here that of (gnu system vm), not of (pyguixvm)"
    "#:hide (virtual-machine)" "write libvirt-machine")
   ("(use-modules (gnu system vm))\n(virtual-machine (operating-system %os))"
    "3:0" "a virtual-machine of (gnu system vm), not of (pyguixvm)")
   ("(use-modules (gnu system vm))
(virtual-machine-operating-system (libvirt-machine (operating-system %os)))"
    "3:0" "virtual-machine-operating-system is here that of (gnu system vm)"
    "write libvirt-machine-operating-system")
   ("(use-modules (guix build syscalls))
(define (shared directory) (mount-point (source directory)))
(list (shared \"/srv\"))"
    "3:27" "mount-point is here that of (guix build syscalls)" "write libvirt-mount-point")
   ("(define-module (library) #:use-module (gnu) #:use-module (tests systems))
(define machine (virtual-machine (operating-system %os) (libvirt-domain (cpu 2))))"
    "3:16" "virtual-machine: unbound variable" "(use-modules (pyguixvm))")
   ("(define-module (library) #:use-module (gnu))\n(define accessor virtual-machine-name)"
    "3:17" "virtual-machine-name: unbound variable" "(use-modules (pyguixvm))")))

(test-equal "names that do not clash"
  '("m" "m2")
  (let ((machines (ref (evaluate-text "(use-modules (gnu system vm) (guix build syscalls))
(define machine
  (libvirt-machine
    (operating-system %os) (name \"m\")
    (libvirt-domain (mount-points (list (libvirt-mount-point (source \"/srv\"))))
                    (disks (libvirt-data-disk (name \"data\") (size 1G))))))
(libvirt-deployment
  (machines (list machine
                  (libvirt-machine
                    (inherit machine)
                    (name (string-append (libvirt-machine-name machine) \"2\"))))))")
                       "deployment" "machines")))
    (map (lambda (machine) (ref machine "name")) (vector->list machines))))

(test-equal "a declaration's name where a variable is wanted"
  '("validation" "3:6" "networking: invalid syntax")
  (error-of (evaluate-text "(define a 1)\n(list networking)")))

(test-assert "a form that is not closed"
  (string-contains
   (ref (evaluate-text "(define a\n (list 1)\n\n(define b 2)\n(list a\n b)\n") "error" "hint")
   "config.scm:2:0 does not seem to be closed"))

(define (error-of-bytes . bytes)
  (call-with-configuration ""
    (lambda (file)
      (call-with-output-file file
        (lambda (port)
          (put-bytevector port (u8-list->bytevector bytes)))
        #:binary #t)
      (match (error-of (evaluate file))
        ((kind place message)
         (list place (string-drop message (or (string-index message #\space) 0))))))))

(test-group "what is no text"
  (test-equal "in another encoding" '("2:0" " line is not encoded in UTF-8")
    (error-of-bytes 40 41 10 34 233 34 10))
  (test-equal "in an encoding that it declares" '("2:0" " last expression gives \"\u00e9\"")
    (apply error-of-bytes (append (map char->integer
                                       (string->list ";; coding: iso-8859-1\n"))
                                  '(34 233 34 10))))
  (test-equal "a program" '(#f " is no text: it has null bytes")
    (error-of-bytes 127 69 76 70 0 1))
  (test-equal "a directory" '("validation" #f "'/tmp' is a directory")
    (error-of (evaluate "/tmp"))))

(test-equal "a file that loads itself"
  '("validation" "2:0" #t)
  (match (error-of (evaluate-text "(load \"config.scm\")\n"))
    ((kind place message)
     (list kind place (->bool (string-contains message "' loads itself: /"))))))


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
