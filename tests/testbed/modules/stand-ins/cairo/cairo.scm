;;; SPDX-License-Identifier: GPL-3.0-or-later
;;;
;;; (cairo) -- stand-in of Guile-Cairo for (gnu build svg): every drawing is
;;; one black pixel, which is what is left of GRUB's background image.

(define-module (cairo)
  #:use-module (ice-9 binary-ports)
  #:export (cairo-create
            cairo-fill
            cairo-get-source
            cairo-get-target
            cairo-image-surface-create
            cairo-pattern-set-filter
            cairo-rectangle
            cairo-scale
            cairo-set-source-surface
            cairo-surface-flush
            cairo-surface-write-to-png))

(define (nothing . _) #t)

(define cairo-create nothing)
(define cairo-fill nothing)
(define cairo-get-source nothing)
(define cairo-get-target nothing)
(define cairo-image-surface-create nothing)
(define cairo-pattern-set-filter nothing)
(define cairo-rectangle nothing)
(define cairo-scale nothing)
(define cairo-set-source-surface nothing)
(define cairo-surface-flush nothing)

(define %pixel
  ;; A PNG file: 1 x 1, eight bits of each of red, green and blue.
  #vu8(#x89 #x50 #x4e #x47 #x0d #x0a #x1a #x0a #x00 #x00 #x00 #x0d
       #x49 #x48 #x44 #x52 #x00 #x00 #x00 #x01 #x00 #x00 #x00 #x01
       #x08 #x02 #x00 #x00 #x00 #x90 #x77 #x53 #xde #x00 #x00 #x00
       #x0c #x49 #x44 #x41 #x54 #x78 #x9c #x63 #x60 #x60 #x60 #x00
       #x00 #x00 #x04 #x00 #x01 #xf6 #x17 #x38 #x55 #x00 #x00 #x00
       #x00 #x49 #x45 #x4e #x44 #xae #x42 #x60 #x82))

(define (cairo-surface-write-to-png surface file)
  "Write the black pixel to FILE."
  (call-with-output-file file
    (lambda (port)
      (put-bytevector port %pixel))
    #:binary #t))
