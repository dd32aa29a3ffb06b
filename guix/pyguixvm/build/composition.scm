;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm build composition)
  #:use-module (gcrypt pk-crypto)
  #:use-module (guix pki)
  #:use-module (guix store)
  #:use-module (ice-9 binary-ports)
  #:use-module (ice-9 match)
  #:use-module (ice-9 rdelim)
  #:use-module ((rnrs bytevectors) #:select (bytevector-length))
  #:use-module (srfi srfi-1)
  #:use-module (srfi srfi-26)
  #:use-module (srfi srfi-34)
  #:export (tell-lacking
            compose))

;;; Commentary:
;;;
;;; What a hypervisor's own Guix does for disk images: it tells which store items it lacks,
;;; and composes an image of those that are there and what is sent besides.  This file is
;;; sent to 'guix repl -t machine' there (pyguixvm/hypervisor/far_guix.py), with a call of one
;;; of the procedures at its end and behind that, on the same standard input, what they read.
;;; The answer is lines that begin with "pyguixvm".
;;;
;;; Code:

(define (answer . words)
  "Have a line of WORDS, the last of which may have spaces, be read at the other end."
  (format #t "pyguixvm ~a~%"
          (string-map (lambda (chr)
                        (if (char=? chr #\newline) #\space chr))
                      (string-join words))))

(define (call-and-end proc)
  "Call PROC with the port that what is sent comes from; tell how it went, and end this process,
which would take what is left of it for expressions."
  (define input
    (current-input-port))

  (define (call)
    (set-port-encoding! input "ISO-8859-1")
    (read-line input)                             ;the rest of the line with the call
    (guard (c ((store-protocol-error? c)
               (answer "refused" (store-protocol-error-message c)))
              ((store-connection-error? c)
               (answer "failed" (store-connection-error-file c)
                       (strerror (store-connection-error-code c)))))
      (proc input)
      (answer "done")))

  (catch #t
    call
    (lambda (key . args)
      (match (cons key args)
        (('system-error _ _ _ (errno _ ...))
         (answer "failed" (strerror errno)))
        (_
         (answer "failed" (object->string (cons key args)))))))
  (force-output)
  (primitive-_exit 0))

(define (read-line* input)
  "Return the next line of INPUT, which has one."
  (match (read-line input)
    ((? eof-object?) (error "what was sent ends early"))
    (line line)))

(define (read-item-lines input)
  "Return the lines of INPUT up to one that is empty."
  (match (read-line input)
    ((or "" (? eof-object?)) '())
    (line (cons line (read-item-lines input)))))


;;;
;;; What is there.
;;;

(define (unknown? key)
  "Is what KEY, a string, signs refused here, as far as can be known?"
  (false-if-exception
   (and (file-exists? %acl-file)                  ;which would be made
        (not (authorized-key? (string->canonical-sexp key))))))

(define (download-size info)
  "Return how many bytes it takes to fetch what INFO, a <substitutable>, tells of."
  (match (substitutable-download-size info)
    (0    (substitutable-nar-size info))          ;not known: that is at most it
    (size size)))

(define (tell-lacking directory)
  "Tell which of the store items that come, a line each, are not there, and which of these
can be fetched from elsewhere, with the bytes that this takes.  Tell if files in DIRECTORY
cannot be written to, if it is there, and if items signed by the key that comes last, if one does,
are not taken."
  (call-and-end
   (lambda (input)
     (define items
       (read-item-lines input))

     (match (read-string input)
       ("" #t)
       (key (when (unknown? key)
              (answer "unknown-key"))))
     (when (file-exists? directory)
       (unless (access? directory W_OK)
         (answer "closed")))
     (with-store store
       (let ((lacking (remove (cut valid-path? store <>) items)))
         (for-each (cut answer "lacks" <>) lacking)
         (for-each (lambda (info)
                     (answer "fetches" (substitutable-path info)
                             (number->string (download-size info))))
                   (if (null? lacking)
                       '()
                       (substitutable-path-info store lacking))))))))


;;;
;;; Composition.
;;;

(define (write-sent input output length)
  "Write the LENGTH bytes that come next from INPUT to OUTPUT."
  (let loop ((left length))
    (unless (zero? left)
      (match (get-bytevector-n input (min left (expt 2 20)))
        ((? eof-object?)
         (error "what was sent ends early"))
        (bytes
         (put-bytevector output bytes)
         (loop (- left (bytevector-length bytes))))))))

(define (copy-pieces pieces output)
  "Write to OUTPUT what PIECES name, each a list: where it goes, how long it is, where it is in
which file."
  (let loop ((pieces pieces) (name #f) (input #f))
    (match pieces
      (()
       (when input (close-port input)))
      (((at length offset file) . rest)
       (if (equal? file name)
           (begin
             (seek output at SEEK_SET)
             (unless (= length (sendfile output input length offset))
               (error "a file is shorter than here" file))
             (loop rest name input))
           (begin
             (when input (close-port input))
             (loop pieces file (open-file file "rb0"))))))))

(define (compose file)
  "Write to FILE, which is there and holds zeros, what comes: bytes, and what store items there
have.  Those that are to be fetched are, and those of an archive at the end are imported; none of
them goes while it is used."
  (call-and-end
   (lambda (input)
     (define output
       (fdopen (open-fdes file O_WRONLY) "wb0"))

     (define (take store)
       ;; Return the pieces to copy, and the items to fetch.
       (let loop ((pieces '()) (fetched '()))
         (match (string-split (read-line* input) #\space)
           (("sent" at length)
            (seek output (string->number at) SEEK_SET)
            (write-sent input output (string->number length))
            (loop pieces fetched))
           (("copied" at length offset name ...)
            (loop (cons (append (map string->number (list at length offset))
                                (list (string-join name)))
                        pieces)
                  fetched))
           (("needs" item)
            ;; That is possible before it is there, too.
            (add-temp-root store item)
            (loop pieces fetched))
           (("fetches" item)
            (loop pieces (cons item fetched)))
           (("imports")
            (fetch store fetched)
            (import-paths store input)
            (reverse pieces))
           (("copies")
            (fetch store fetched)
            (reverse pieces)))))

     (define (fetch store items)
       (unless (null? items)
         (build-things store items)))

     (with-store store
       (copy-pieces (take store) output)
       (fsync output)
       (close-port output)))))
