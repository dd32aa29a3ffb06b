;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm system local-image)
  #:use-module (pyguixvm diagnostics)
  #:use-module (pyguixvm json)
  #:use-module (pyguixvm libvirt)
  #:use-module (pyguixvm machine)
  #:use-module (ice-9 binary-ports)
  #:use-module (rnrs bytevectors)
  #:use-module (srfi srfi-11)
  #:export (refuse-what-is-made
            validate-local-image
            local-image->json))

;;; Commentary:
;;;
;;; A disk image that exists already.
;;;
;;; Code:

(define %qcow2-magic #vu8(#x51 #x46 #x49 #xfb))   ;"QFI\xfb"

(define %sector-size 512)

(define (first-sector file)
  "Return what the first sector of FILE holds, less if that is shorter."
  (let ((read (call-with-input-file file
                (lambda (port)
                  (get-bytevector-n port %sector-size))
                #:binary #t)))
    (if (bytevector? read) read #vu8())))

(define (disk-image-format sector)
  "Return 'qcow2 or 'raw, or #f when what begins with SECTOR is neither.  A raw disk is told
by the signature that ends its first sector, with MBR and GPT alike: without one nothing
starts from it."
  (define size (bytevector-length sector))

  (define (bytes=? offset expected)
    (let ((count (bytevector-length expected)))
      (and (>= size (+ offset count))
           (let ((actual (make-bytevector count)))
             (bytevector-copy! sector offset actual 0 count)
             (bytevector=? actual expected)))))

  (cond ((bytes=? 0 %qcow2-magic) 'qcow2)
        ((bytes=? 510 #vu8(#x55 #xaa)) 'raw)
        (else #f)))

(define %external-data 4)                         ;a bit of its incompatible features

(define (refers-elsewhere? sector)
  "Does the qcow2 image that begins with SECTOR name another file, which QEMU would open?"
  (define (number offset)
    (if (>= (bytevector-length sector) (+ offset 8))
        (bytevector-u64-ref sector offset (endianness big))
        0))

  (define version
    (logand #xffffffff (number 0)))

  (or (positive? (number 8))                      ;where its backing file is named
      (and (>= version 3)
           (logtest %external-data (number 72)))))

(define (examine-local-image image)
  "Return the format of IMAGE, a <local-image>, and what 'stat' says about it;
refuse it when it cannot be read or is of an unknown format."
  (let ((file     (local-image-file image))
        (location (local-image-location image)))
    (catch 'system-error
      (lambda ()
        (let ((status (stat file)))
          (unless (eq? 'regular (stat:type status))
            (refuse location
                    (format #f "local-image: '~a' is no regular file" file)))
          (let* ((sector  (first-sector file))
                 (format* (disk-image-format sector)))
            (unless format*
              (refuse location
                      (format #f "local-image: '~a' is neither a qcow2 image nor \
a raw disk that can start" file)
                      #:hint "Convert it with 'qemu-img convert -O qcow2'."))
            (when (and (eq? 'qcow2 format*) (refers-elsewhere? sector))
              (refuse location
                      (format #f "local-image: '~a' is not whole: it names another file, \
which has a part of it" file)
                      #:hint "Have both in one: 'qemu-img convert -O qcow2', if you know \
where it comes from."))
            (values format* status))))
      (lambda args
        (refuse location
                (format #f "local-image: '~a': ~a" file
                        (strerror (system-error-errno args))))))))

(define (validate-local-image machine)
  "Refuse MACHINE if its <local-image> cannot be what it declares."
  (examine-local-image (virtual-machine-image machine))
  (refuse-what-is-made machine))

(define (refuse-what-is-made machine)
  "Refuse MACHINE, whose image is as it is, if it asks for what only images have that Guix
makes."
  (define domain
    (virtual-machine-libvirt-domain machine))

  (when (virtual-machine-shared-store? machine)
    (refuse (virtual-machine-place machine 'shared-store?)
            "shared-store?: an image that exists already runs from itself"
            #:hint "Give the machine an operating-system instead of the image."))
  (unless (null? (libvirt-domain-kernel-arguments domain))
    (refuse (libvirt-domain-place domain 'kernel-arguments)
            "kernel-arguments: they cannot be added to an image that exists already")))

(define (local-image->json machine _)
  "Return the JSON of the <local-image> of MACHINE."
  (define image
    (virtual-machine-image machine))

  (let-values (((format* status) (examine-local-image image)))
    (object ("kind"     "local-image")
            ("path"     (local-image-file image))
            ("format"   (symbol->string format*))
            ("size"     (stat:size status))
            ("modified" (stat:mtime status)))))
