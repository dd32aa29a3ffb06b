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

(define (lower-direct-boot os root-device)
  "Return, as a monadic value, the <direct-boot> of OS with its root on ROOT-DEVICE."
  ;; Arguments may be G-expressions: what a builder would make of them is known before
  ;; anything is built.
  (mlet %store-monad
      ((lowered (lower-gexp
                 #~(list #$(operating-system-kernel-file os)
                         #$(file-append os "/initrd")
                         #$@(operating-system-kernel-arguments os root-device)))))
    (match (eval (lowered-gexp-sexp lowered) (make-fresh-user-module))
      ((kernel initrd arguments ...)
       (return (make-direct-boot kernel initrd arguments))))))

(define (direct-boot->json boot)
  (object ("kernel"    (direct-boot-kernel boot))
          ("initrd"    (direct-boot-initrd boot))
          ("arguments" (list->vector (direct-boot-arguments boot)))))
