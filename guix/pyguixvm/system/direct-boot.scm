;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm system direct-boot)
  #:use-module (pyguixvm json)
  #:use-module (gnu system)
  #:use-module (guix gexp)
  #:use-module (guix monads)
  #:use-module (guix store)
  #:use-module (ice-9 match)
  #:use-module (srfi srfi-9)
  #:export (lower-direct-boot
            direct-boot->json))

;;; Commentary:
;;;
;;; What a hypervisor takes to start an operating-system by itself, without firmware and
;;; boot loader.
;;;
;;; Code:

(define-record-type <direct-boot>
  (make-direct-boot kernel initrd arguments)
  direct-boot?
  (kernel    direct-boot-kernel)                  ;file name in the store
  (initrd    direct-boot-initrd)                  ;file name in the store
  (arguments direct-boot-arguments))              ;list of strings

(define* (lower-direct-boot os root-device #:key (otherwise raise-exception))
  "Return, as a monadic value, the <direct-boot> of OS with its root on ROOT-DEVICE; or what
OTHERWISE makes of the exception if only a builder can compute its arguments."
  ;; Arguments may be G-expressions: what a builder would make of them is mostly known
  ;; before anything is built.
  (mlet %store-monad
      ((lowered (lower-gexp
                 #~(list #$(operating-system-kernel-file os)
                         #$(file-append os "/initrd")
                         #$@(operating-system-kernel-arguments os root-device)))))
    (return
     (with-exception-handler otherwise
       (lambda ()
         (match (eval (lowered-gexp-sexp lowered) (make-fresh-user-module))
           (((? string? kernel) (? string? initrd) (? string? arguments) ...)
            (make-direct-boot kernel initrd arguments))))
       #:unwind? #t))))

(define (direct-boot->json boot)
  (object ("kernel"    (direct-boot-kernel boot))
          ("initrd"    (direct-boot-initrd boot))
          ("arguments" (list->vector (direct-boot-arguments boot)))))
