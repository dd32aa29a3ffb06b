;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm evaluator guix)
  #:use-module (guix modules)
  #:export (remember-module-closures!))

;;; Commentary:
;;;
;;; The gexps of a system ask again and again which modules a few of Guix's modules
;;; need, and each time Guix looks for them all in every directory of the load path:
;;; thousands of 'stat' calls, a fifth of the time that lowering takes in a process
;;; which has all else in its caches.
;;;
;;; Code:

(define (remembering closure)
  "Return a procedure that answers as CLOSURE, which is 'source-module-closure', but
computes no answer twice."
  (define answers
    (make-hash-table))

  (lambda* (modules #:optional (load-path %load-path)
                    #:key (select? guix-module-name?))
    (let ((question (list modules load-path select?)))
      (or (hash-ref answers question)
          (let ((answer (closure modules load-path #:select? select?)))
            (hash-set! answers question answer)
            answer)))))

(define (remember-module-closures!)
  "From now on, in this process, take for granted which modules need which.  To be
called in the process of a single evaluation: the next one may find other files."
  (let ((module (resolve-module '(guix modules))))
    (module-set! module 'source-module-closure
                 (remembering (module-ref module 'source-module-closure)))))
