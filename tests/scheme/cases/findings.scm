;;; SPDX-License-Identifier: GPL-3.0-or-later

;; All that is wrong with a configuration is told at once, in the order of the places.

(use-modules (tests configuration)
             (guix utils)
             (srfi srfi-64))

(define* (places+words json #:optional (key "errors"))
  (map (lambda (error)
         (list (ref error "location" "line") (ref error "location" "column")
               (car (string-split (ref error "message") #\:))))
       (vector->list (ref json key))))

(define* (test-places text expected #:rest options)
  (test-equal text
    expected
    (places+words (apply evaluate-text text options))))

(test-begin "findings")

(test-group "several errors"
  (test-places
   "(list
 (virtual-machine (operating-system %network-os) (name \"a/b\")
   (libvirt-domain (cpu 0) (memory 1M) (networking (mac-address zz:aa))))
 (virtual-machine (operating-system %network-os) (name \"b\") (ready-timeout 0)))"
   '((3 55 "name") (4 24 "cpu") (4 35 "memory") (4 64 "mac-address")
     (5 75 "ready-timeout")))
  ;; When it is expanded, when it is run, and by a rule about several fields.
  (test-places
   "(list
 (virtual-machine (operating-system %network-os) (colour 1) (ready-timeout 0))
 (virtual-machine (operating-system %network-os) (name \"b\") (ready (list 5 6)))
 (virtual-machine (operating-system %network-os) (name \"c\")
   (libvirt-domain (cpu 4) (maximum-cpu 2))))"
   '((3 49 "virtual-machine") (3 75 "ready-timeout")
     (4 67 "ready") (4 67 "ready") (6 40 "maximum-cpu")))
  ;; What others raise in a field.
  (test-places
   "(list
 (virtual-machine (operating-system oss) (ready-timeout 0))
 (virtual-machine (operating-system %network-os) (libvirt-domain (cpu (car 5)))))"
   '((3 36 "oss") (3 56 "ready-timeout") (4 70 "In procedure car")))
  ;; What Guix refuses when it computes derivations, where that is asked for.
  (test-places
   "(list (virtual-machine (operating-system %network-os) (ready-timeout 0))
 (virtual-machine (name \"b\")
   (operating-system (operating-system (inherit %network-os) (services '())))))"
   '((2 69 "ready-timeout") (3 1 "service 'file-system-/dev/pts' requires 'udev', which \
is not provided by any service"))
   #:want 'systems)
  ;; Those of this declaration only: its value is not told to be wrong elsewhere.
  (test-places
   "(define disk (data-disk (nam \"a\") (size 1G)))
(virtual-machine (operating-system %network-os)
  (libvirt-domain (cpu 0) (maximum-cpu 1) (disks disk)))"
   '((2 24 "data-disk") (4 23 "cpu"))))

;; An error that ends a definition hides no other one, and what follows from it is none.
(test-group "definitions"
  (test-places
   "(define one (undefined-procedure 1))
(define (vm name) (virtual-machine (name name) (operating-system %network-os) (colour 1)))
(define two (car '()))
(list (virtual-machine (operating-system %network-os) (ready-timeout 0))
      one (vm \"b\") two)"
   '((2 13 "undefined-procedure") (3 78 "virtual-machine") (4 12 "In procedure car")
     (5 69 "ready-timeout")))
  ;; A procedure that could not be defined.
  (test-places
   "(define (vm name) (let ((x)) name))
(list (vm \"a\") (virtual-machine (operating-system %network-os) (ready-timeout 0)))"
   '((2 18 "(let ((x)) name)")))
  ;; Without its modules nothing can be told of the rest.
  (test-places
   "(use-modules (no such module))
(define os (operating-system (host-name \"x\")))
os"
   '((2 0 "no code for module (no such module)")))
  ;; What is loaded is needed as a whole.
  (test-equal "a file that is loaded"
    1
    (call-with-temporary-directory
     (lambda (directory)
       (let ((file (string-append directory "/part.scm")))
         (call-with-output-file file
           (lambda (port)
             (display "(define a (car '()))\n(define b (cdr '()))\n" port)))
         (vector-length
          (ref (evaluate-text (format #f "(load ~s)\n%network-os" file))
               "errors")))))))

(test-equal "the first is the error"
  '("validation" "3:8" "cpu: 0 is not an integer of at least 1")
  (error-of (evaluate-text "(virtual-machine (operating-system %network-os) (libvirt-domain
   (cpu 0) (memory 1M)))")))

(test-equal "one error, one in the list"
  1
  (vector-length (ref (evaluate-text "(virtual-machine (colour 1) (operating-system %network-os))")
                      "errors")))

(define (warnings text)
  (places+words (evaluate-text text) "warnings"))

(define %dropped
  "this declares machines, but only the last expression of a file counts")

(test-group "machines that are left out"
  (test-equal "declared, made by a procedure, and as a list"
    `((2 0 ,%dropped) (4 0 ,%dropped) (5 0 ,%dropped))
    (warnings "(virtual-machine (operating-system %network-os) (name \"a\"))
(define (vm name) (virtual-machine (operating-system %network-os) (name name)))
(vm \"b\")
(list (vm \"c\"))
(vm \"d\")"))
  (test-equal "what else may stand before the last expression"
    '()
    (warnings "(define-syntax-rule (mine name) (define name (vm \"a\")))
(define (vm name) (virtual-machine (operating-system %network-os) (name name)))
(mine first)
(begin (define second first))
(when #f (vm \"b\"))
(list 1 2)
(let ((vm vm)) (list first (vm \"b\")))")))

(define (warned? clauses)
  (positive? (vector-length
              (ref (evaluate-text (string-append "(virtual-machine " clauses ")"))
                   "warnings"))))

(test-group "machines without a network"
  (test-equal "the place, of the machine or of its 'ready'"
    '((2 6 "this machine is ready when it has an address, and no service of its \
operating-system configures a network")
      (3 59 "this machine is ready when it has an address, and no service of its \
operating-system configures a network"))
    (warnings "(list (virtual-machine (operating-system %os))
 (virtual-machine (operating-system %os) (name \"b\") (ready (list (tcp-port 22)))))"))
  (test-assert "an address by a service"
    (not (warned? "(operating-system %network-os)")))
  (test-assert "a static address"
    (not (warned? "(operating-system (operating-system (inherit %os)
  (services (cons (service static-networking-service-type
                           (list (static-networking (addresses '()))))
                  %base-services))))")))
  (test-assert "an address by another service's extension"
    (not (warned? "(operating-system (operating-system (inherit %os)
  (services (cons (simple-service 'lan static-networking-service-type
                                  (list (static-networking (addresses '()))))
                  %base-services))))")))
  (test-assert "nothing to wait for"
    (not (warned? "(operating-system %os) (ready '())"))))

(test-group "what is waited for in vain"
  (test-equal "an address, without an interface"
    '((2 55 "this machine is ready when it has an address, and its networking is empty"))
    (warnings "(virtual-machine (operating-system %network-os) (ready (address))
 (libvirt-domain (networking '())))"))
  (test-equal "an agent, without its service"
    '((2 55 "this machine is ready when its guest agent answers, and no service of its \
operating-system runs one"))
    (warnings "(virtual-machine (operating-system %network-os) (ready (guest-agent)))"))
  (test-assert "an agent, by its service"
    (not (warned? "(operating-system (operating-system (inherit %network-os)
  (services (cons (service (@ (gnu services virtualization) qemu-guest-agent-service-type))
                  (operating-system-user-services %network-os)))))
  (ready (guest-agent))"))))

(define (warnings-of-menu seconds)
  "Return the warnings about a machine whose boot menu waits for SECONDS, as text."
  (warnings (string-append "(use-modules (gnu bootloader)) (virtual-machine (operating-system
  (operating-system (inherit %network-os)
   (bootloader (bootloader-configuration (inherit (operating-system-bootloader %network-os))
    (timeout " seconds "))))))")))

(test-group "boot menus"
  (test-equal "that wait"
    '((3 2 "each start of this machine waits 5 s at its boot menu"))
    (warnings-of-menu "5"))
  (test-equal "that wait for somebody"
    '((3 2 "each start of this machine waits at its boot menu until somebody chooses"))
    (warnings-of-menu "-1"))
  (test-equal "that do not"
    '()
    (warnings-of-menu "0")))

(test-group "differences that are ignored"
  (test-equal "by a name that none has"
    '((2 62 "ignore-drift"))
    (warnings "(virtual-machine (operating-system %network-os) (ignore-drift \"domain.memroy\"))"))
  (test-assert "by those that some have"
    (not (warned? "(operating-system %network-os)
  (ignore-drift (list \"domain.memory\" \"domain.disks.db\" \"image.kernel\" \"root\"))"))))

(define (with-system clauses)
  (string-append "(use-modules (gnu)) (virtual-machine (operating-system (operating-system
 (inherit %network-os) " clauses ")))"))

(test-group "systems that may not start"
  (test-equal "devices of another computer"
    '((3 43 "the file system for /home is named by a UUID, which no disk of the machine has"))
    (warnings (with-system "(file-systems (cons (file-system (mount-point \"/home\")
 (device (uuid \"4dab5feb-d176-45de-b287-9b0a6e4c01cb\")) (type \"ext4\"))
 (operating-system-file-systems %network-os)))")))
  (test-equal "a swap space"
    '((2 55 "a swap space is named by a UUID, which no disk of the machine has"))
    (warnings (with-system "(swap-devices (list (swap-space
 (target (uuid \"4dab5feb-d176-45de-b287-9b0a6e4c01cb\")))))")))
  (test-equal "no driver of the disk"
    '((2 55 "initrd-modules"))
    (warnings (with-system "(initrd-modules '(\"ahci\"))")))
  (test-equal "the usual ones, and one more"
    '()
    (warnings (with-system "(initrd-modules (cons \"ahci\" %base-initrd-modules))"))))

(test-end "findings")
