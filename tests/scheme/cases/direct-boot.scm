;;; SPDX-License-Identifier: GPL-3.0-or-later

;; What starts an operating-system without its boot loader, known before anything is built.

(use-modules (tests configuration)
             (tests systems)
             ((srfi srfi-1) #:select (last))
             (srfi srfi-64))

(define %modules
  "(use-modules (gnu) (gnu image) (guix gexp) (ice-9 textual-ports))")

(define %built
  ;; In an argument, which only a builder can compute.
  "#~(call-with-input-file #$(computed-file \"argument\"
 #~(call-with-output-file #$output (lambda (port) (display \"x=1\" port))))
 (@ (ice-9 textual-ports) get-string-all))")

(define* (evaluated argument #:rest options)
  "Return the JSON of a machine whose kernel gets ARGUMENT, a text."
  (apply evaluate-text
         (string-append %modules "
(virtual-machine (operating-system (operating-system (inherit %os)
 (kernel-arguments (list \"quiet\" " argument ")))))")
         #:want 'images
         options))

(define (boot json)
  (ref json "deployment" "machines" 0 "image" "content" "boot"))

(test-begin "direct-boot")

(test-equal "an argument may be computed"
  "v=1"
  (last (vector->list
         (ref (boot (evaluated "#~(string-append \"v=\" (number->string 1))"))
              "arguments"))))

(test-equal "an image whose arguments only a builder can compute has its boot loader"
  'null
  (boot (evaluated %built)))

(test-equal "so has one whose arguments are none"
  'null
  (boot (evaluated "#~(+ 1 1)")))

(test-assert "what has no boot loader is refused"
  (ref (evaluated %built #:shared-store? #t) "error" "message"))

(test-end "direct-boot")
