;;; SPDX-License-Identifier: GPL-3.0-or-later

;; usage: guix repl -- within-guix.scm BEFORE AFTER [build]
;;
;; Print how many seconds Guix takes, in a process that has just had the system in the file
;; BEFORE, for the derivation of an image of the one in AFTER, and for the build of that
;; system, if that is asked for: what is left when nothing is loaded twice, and Guix lowers
;; no object twice.  Objects that are alike are several for Guix.

(use-modules (gnu image)
             (gnu system image)
             (guix derivations)
             (guix gexp)
             (guix grafts)
             (guix monads)
             (guix packages)
             (guix store)
             (guix ui)
             (ice-9 match))

(define (load-system file)
  (load* file (make-user-module '((gnu system) (gnu services) (gnu system shadow)))))

(define (lower store os)
  "Return the derivations of OS and of its image."
  (run-with-store store
    (mbegin %store-monad
      (set-guile-for-build (default-guile))
      (mapm %store-monad lower-object
            (list os
                  (system-image (image
                                 (inherit (os->image os
                                                     #:type mbr-hybrid-raw-image-type))
                                 (volatile-root? #f))))))))

(define (seconds thunk)
  (let ((begun (get-internal-real-time)))
    (thunk)
    (/ (- (get-internal-real-time) begun) internal-time-units-per-second 1.)))

(match (program-arguments)
  ((_ before after . build?)
   (parameterize ((%graft? (not (string-contains (or (getenv "GUIX_BUILD_OPTIONS") "")
                                                 "--no-grafts"))))
     (with-store store
       (define (build drvs)
         (unless (null? build?)
           (build-derivations store (list (car drvs)))))

       (build (lower store (load-system before)))
       (let* ((drvs     #f)
              (lowering (seconds (lambda ()
                                   (set! drvs (lower store (load-system after))))))
              (building (seconds (lambda () (build drvs)))))
         (format #t "~a ~a~%" lowering building))))))
