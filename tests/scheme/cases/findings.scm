;;; SPDX-License-Identifier: GPL-3.0-or-later

;; All that is wrong with a configuration is told at once, in the order of the places.

(use-modules (tests configuration)
             (srfi srfi-64))

(define (places+words json)
  (map (lambda (error)
         (list (ref error "location" "line") (ref error "location" "column")
               (car (string-split (ref error "message") #\:))))
       (vector->list (ref json "errors"))))

(define* (test-places text expected #:rest options)
  (test-equal text
    expected
    (places+words (apply evaluate-text text options))))

(test-begin "findings")

(test-group "several errors"
  (test-places
   "(list
 (virtual-machine (operating-system %os) (name \"a/b\")
   (libvirt-domain (cpu 0) (memory 1M) (networking (mac-address zz:aa))))
 (virtual-machine (operating-system %os) (name \"b\") (ready-timeout 0)))"
   '((3 47 "name") (4 24 "cpu") (4 35 "memory") (4 64 "mac-address")
     (5 67 "ready-timeout")))
  ;; When it is expanded, when it is run, and by a rule about several fields.
  (test-places
   "(list
 (virtual-machine (operating-system %os) (colour 1) (ready-timeout 0))
 (virtual-machine (operating-system %os) (name \"b\") (ready (list 5 6)))
 (virtual-machine (operating-system %os) (name \"c\")
   (libvirt-domain (cpu 4) (maximum-cpu 2))))"
   '((3 41 "virtual-machine") (3 67 "ready-timeout")
     (4 59 "ready") (4 59 "ready") (6 40 "maximum-cpu")))
  ;; What others raise in a field.
  (test-places
   "(list
 (virtual-machine (operating-system oss) (ready-timeout 0))
 (virtual-machine (operating-system %os) (libvirt-domain (cpu (car 5)))))"
   '((3 36 "oss") (3 56 "ready-timeout") (4 62 "In procedure car")))
  ;; What Guix refuses when it computes derivations, where that is asked for.
  (test-places
   "(list (virtual-machine (operating-system %os) (ready-timeout 0))
 (virtual-machine (name \"b\")
   (operating-system (operating-system (inherit %os) (services '())))))"
   '((2 61 "ready-timeout") (3 1 "service 'file-system-/dev/pts' requires 'udev', which \
is not provided by any service"))
   #:want 'systems)
  ;; Those of this declaration only: its value is not told to be wrong elsewhere.
  (test-places
   "(define disk (data-disk (nam \"a\") (size 1G)))
(virtual-machine (operating-system %os)
  (libvirt-domain (cpu 0) (maximum-cpu 1) (disks disk)))"
   '((2 24 "data-disk") (4 23 "cpu"))))

(test-equal "the first is the error"
  '("validation" "3:8" "cpu: 0 is not an integer of at least 1")
  (error-of (evaluate-text "(virtual-machine (operating-system %os) (libvirt-domain
   (cpu 0) (memory 1M)))")))

(test-equal "one error, one in the list"
  1
  (vector-length (ref (evaluate-text "(virtual-machine (colour 1) (operating-system %os))")
                      "errors")))

(test-end "findings")
