;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm build image)
  #:use-module (pyguixvm build debugfs)
  #:use-module (gnu build image)
  #:use-module (gnu build install)
  #:use-module (guix build store-copy)
  #:use-module (guix build utils)
  #:use-module (guix store database)
  #:use-module (ice-9 binary-ports)
  #:use-module (ice-9 match)
  #:use-module (ice-9 popen)
  #:use-module (ice-9 rdelim)
  #:use-module (ice-9 regex)
  #:use-module (sqlite3)
  #:use-module (srfi srfi-1)
  #:use-module (srfi srfi-11)
  #:export (assemble-image))

;;; Commentary:
;;;
;;; A disk image of a Guix System, put together on the builder's side from the image of
;;; an empty one.  What is in it is what (gnu system image) puts there; but each file of
;;; the closure is written once instead of four times, and what has to be computed of them
;;; is meanwhile.
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

(define (graph-items graphs)
  "Return the store items in GRAPHS, names of files with reference graphs."
  (delete-duplicates
   (append-map (lambda (graph)
                 (map store-info-item
                      (call-with-input-file graph read-reference-graph)))
               graphs)))

(define (tellable-items items)
  "Return what makes debugfs write each of ITEMS to a store, as pairs of it and a list of
commands; and those that it cannot be told of."
  (let*-values (((told) (map (lambda (item)
                               (cons item (tree-commands item (basename item))))
                             items))
                ((tellable rest) (partition (match-lambda
                                              ((_ . commands)
                                               (every tellable? commands)))
                                            told)))
    (values tellable (map car rest))))

(define (populate-root root system items)
  "Make ROOT, a directory, the root of SYSTEM; of all that its store is to hold, it has
ITEMS."
  (initialize-root-partition root
                             #:copy-closures? #f
                             #:register-closures? #f
                             #:system-directory system)
  (unless (null? items)
    (apply invoke "cp" "--recursive" "--no-dereference"
           "--preserve=mode,timestamps" "--reflink=auto"
           (string-append "--target-directory=" root (%store-directory))
           "--" items)))

(define %database
  ;; What lists the store items, where the system has it.
  (store-database-file #:prefix ""))

(define (register-graphs graphs)
  "List what is in GRAPHS in a database of store items; return its file name."
  ;; As 'initialize-root-partition' does, which has the store looked at below a root.
  (define root "registered")

  (mkdir-p (string-append root (dirname (%store-directory))))
  (symlink (%store-directory) (string-append root (%store-directory)))
  (let ((database (store-database-file #:prefix root)))
    (with-database database db
      ;; A machine that stops meanwhile has to build again anyway, and each item would
      ;; wait for what is written beside it.
      (sqlite-exec db "PRAGMA synchronous = OFF;")
      (for-each (lambda (graph)
                  (register-items db
                                  (call-with-input-file graph read-reference-graph)
                                  #:prefix root
                                  #:registration-time %epoch))
                graphs))
    database))


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

(define (copy-beginning source target size)
  "Make the file TARGET of the first SIZE bytes of SOURCE."
  (call-with-input-file source
    (lambda (input)
      (call-with-output-file target
        (lambda (output)
          (put-bytevector output (get-bytevector-n input size)))
        #:binary #t))
    #:binary #t))

(define (lay-out disk empty size gpt?)
  "Make DISK of EMPTY with SIZE bytes in its last partition, where nothing is; return where
that begins."
  (let* ((starts (partition-starts empty))
         (start  (last starts))
         (end    (+ start size)))
    (copy-beginning empty disk start)
    (truncate-file disk (if gpt?
                            (round-up (+ end %gpt-backup-size) %mebibyte)
                            end))
    (resize-partition! disk (length starts) size)
    start))

(define (estimated-size files)
  "Return the size of a partition for FILES in bytes, as Guix estimates it."
  ;; 'estimate-partition-size' in (gnu build image), in whole KiB.
  (round-up (max %mebibyte
                 (inexact->exact
                  (round (* 1.25 (apply + (map file-size files))))))
            1024))

(define (make-file-system disk start size root type label uuid options)
  "Make the file system of TYPE with LABEL, UUID and OPTIONS that holds ROOT, in the SIZE
bytes of DISK from START on."
  ;; As 'make-ext-image' in (gnu build image).
  (apply invoke "fakeroot" "mke2fs" "-t" type "-d" root "-L" label "-U" uuid
         "-E" (format #f "root_owner=0:0,lazy_itable_init=1,lazy_journal_init=1,\
offset=~a" start)
         `(,@options ,disk ,(format #f "~ak" (quotient size 1024)))))

(define (index-directories disk start)
  "Index the directories of the file system at START in DISK, as 'make-ext-image' does."
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

  (let-values (((written copied) (tellable-items (graph-items graphs))))
    (populate-root root system copied)
    (install-bootloader root)
    (install-boot-config bootcfg bootcfg-location root)
    (mkdir-p (string-append root (dirname %database)))
    (let* ((size  (estimated-size (cons root (map car written))))
           (start (lay-out disk empty size gpt?)))
      (make-file-system disk start size root type label uuid options)
      (let* ((finish-items (begin-change disk start
                                         `(("cd" ,(%store-directory))
                                           ,@(append-map cdr written))))
             ;; This takes the digest of every item, meanwhile.
             (database (register-graphs graphs)))
        (finish-items)
        (change disk start
                `(("cd" ,(dirname %database))
                  ("write" ,database ,(basename %database)))))
      (index-directories disk start))))
