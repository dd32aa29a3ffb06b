;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm system grafting)
  #:use-module (guix monads)
  #:use-module (guix store)
  #:export (ungrafted))

;;; Commentary:
;;;
;;; What is known of a system before anything is built.
;;;
;;; Code:

(define (ungrafted mvalue)
  "Return MVALUE, a monadic value, as it is without grafts: computing it builds nothing."
  ;; Not 'without-grafting', which also forgets for which system this is.
  (mlet* %store-monad ((graft? (set-grafting #f))
                       (value  mvalue)
                       (_      (set-grafting graft?)))
    (return value)))
