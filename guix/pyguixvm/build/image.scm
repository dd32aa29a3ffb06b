;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm build image)
  #:use-module (gnu build image)
  #:use-module (gnu build install)
  #:use-module (guix build store-copy)
  #:use-module (guix build utils)
  #:use-module (ice-9 binary-ports)
  #:use-module (ice-9 match)
  #:use-module (ice-9 popen)
  #:use-module (ice-9 rdelim)
  #:use-module (ice-9 regex)
  #:use-module (rnrs bytevectors)
  #:use-module (srfi srfi-1)
  #:export (assemble-image))

;;; Commentary:
;;;
;;; A disk image of a Guix System, put together on the builder's side from the image of
;;; an empty one.  What is in it is what (gnu system image) puts there; but each file of
;;; the closure is written twice instead of four times, and what has to be computed of
;;; them is while they are copied.
;;;
;;; Code:

(define %sector-size 512)

(define %gpt-backup-size
  ;; The copy of a GUID partition table at the end: 32 sectors of entries, and the header.
  (* 33 %sector-size))

(define %mebibyte (expt 2 20))

(define (round-up number unit)
  (* unit (ceiling-quotient number unit)))


;;;
;;; The root directory.
;;;

(define (start program . arguments)
  "Start PROGRAM with ARGUMENTS and return its process id."
  (match (primitive-fork)
    (0
     (dynamic-wind
       (const #t)
       (lambda () (apply execlp program program arguments))
       (lambda () (primitive-_exit 127))))
    (pid pid)))

(define (wait-for pid what)
  "Return when the process PID, which does WHAT, is done; raise an error if it failed."
  (match (waitpid pid)
    ((_ . status)
     (unless (eqv? 0 (status:exit-val status))
       (error "failed to" what status)))))

(define (graph-items graphs)
  "Return the store items in GRAPHS, names of files with reference graphs."
  (delete-duplicates
   (append-map (lambda (graph)
                 (map store-info-item
                      (call-with-input-file graph read-reference-graph)))
               graphs)))

(define (populate-root root system graphs)
  "Make ROOT, a directory, the root of SYSTEM; its store holds what is in GRAPHS."
  (define store
    (string-append root (%store-directory)))

  (define items "items")

  (mkdir items)
  ;; As 'populate-store' has it.
  (chmod items #o1775)
  (let ((copying (apply start "cp" "--recursive" "--no-dereference"
                        "--preserve=mode,timestamps" "--reflink=auto"
                        (string-append "--target-directory=" items)
                        "--" (graph-items graphs))))
    ;; The registration takes the digest of every item, where the store has it.
    (initialize-root-partition root
                               #:references-graphs graphs
                               #:copy-closures? #f
                               #:deduplicate? #f
                               #:system-directory system)
    (wait-for copying "copy the store items"))
  (rmdir store)
  (rename-file items store))


;;;
;;; The disk.
;;;

(define (partition-starts disk)
  "Return where the partitions of DISK, a raw image, begin, in bytes."
  (let* ((port (open-pipe* OPEN_READ "sfdisk" "--dump" disk))
         (dump (read-string port)))
    (unless (zero? (close-pipe port))
      (error "sfdisk failed to read" disk))
    (map (lambda (found)
           (* %sector-size (string->number (match:substring found 1))))
         (list-matches "start= *([0-9]+)" dump))))

(define (resize-partition! disk number size)
  "Have the partition NUMBER of DISK take SIZE bytes from where it begins on."
  (let ((port (open-pipe* OPEN_WRITE "sfdisk" "--quiet" "--no-reread"
                          "--no-tell-kernel" "--wipe=never"
                          "--wipe-partitions=never"
                          "-N" (number->string number) disk)))
    (format port ", ~a~%" (quotient size %sector-size))
    (unless (zero? (close-pipe port))
      (error "sfdisk failed to resize the last partition of" disk))))

(define (clear! file start end)
  "Have FILE hold zeros from START to END, in bytes."
  (call-with-port (open-file file "r+b")
    (lambda (port)
      (seek port start SEEK_SET)
      (put-bytevector port (make-bytevector (- end start) 0)))))

(define (extend! disk size gpt?)
  "Make room for SIZE bytes in the last partition of DISK; return where it begins."
  (let* ((starts (partition-starts disk))
         (start  (last starts))
         (before (stat:size (stat disk)))
         (end    (+ start size)))
    (truncate-file disk (if gpt?
                            (round-up (+ end %gpt-backup-size) %mebibyte)
                            end))
    (resize-partition! disk (length starts) size)
    ;; What is left of the empty one.
    (clear! disk start (min before end))
    start))

(define (estimated-size root)
  "Return the size of a partition for ROOT in bytes, as Guix estimates it."
  ;; 'estimate-partition-size' in (gnu build image), in whole KiB.
  (round-up (max %mebibyte
                 (inexact->exact (round (* 1.25 (file-size root)))))
            1024))

(define (make-file-system disk start size root type label uuid options)
  "Make the file system of TYPE with LABEL, UUID and OPTIONS that holds ROOT, in the SIZE
bytes of DISK from START on."
  ;; As 'make-ext-image' in (gnu build image).
  (apply invoke "fakeroot" "mke2fs" "-t" type "-d" root "-L" label "-U" uuid
         "-E" (format #f "root_owner=0:0,lazy_itable_init=1,lazy_journal_init=1,\
offset=~a" start)
         `(,@options ,disk ,(format #f "~ak" (quotient size 1024))))
  (invoke "e2fsck" "-fDy" (format #f "~a?offset=~a" disk start)))

(define* (assemble-image disk #:key empty gpt? system graphs
                         install-bootloader bootcfg bootcfg-location
                         type label uuid options)
  "Make DISK, a raw image of SYSTEM, of which GRAPHS, names of files, list what its store
holds.  EMPTY is the image of an empty system with the same partitions, the last of them
the root; GPT? tells whether they are in a GUID partition table.  INSTALL-BOOTLOADER is
called with the root directory; the file BOOTCFG is to be at BOOTCFG-LOCATION there.  TYPE,
LABEL, UUID and OPTIONS are those of the root file system."
  (define root "root")

  (populate-root root system graphs)
  (install-bootloader root)
  (install-boot-config bootcfg bootcfg-location root)
  (let ((size (estimated-size root)))
    (copy-file empty disk)
    (chmod disk #o644)
    (make-file-system disk (extend! disk size gpt?) size
                      root type label uuid options)))
