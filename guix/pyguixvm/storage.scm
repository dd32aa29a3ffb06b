;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm storage)
  #:use-module (pyguixvm records)
  #:use-module (pyguixvm sanitizers)
  #:use-module (pyguixvm sanitizers directories)
  #:use-module (srfi srfi-9)
  #:export (data-disk
            data-disk?
            data-disk-name
            data-disk-file-system
            data-disk-target
            data-disk-place
            %state-disk

            block-device
            block-device?
            block-device-file
            block-device-location

            mount-point
            %mount-point
            mount-point?
            mount-point-target
            mount-point-tag
            mount-point-driver
            mount-point-read-only?
            mount-point-place

            check-disks
            check-mount-points))

;;; Commentary:
;;;
;;; Storage beside the root: volumes that outlive it, disks and directories of the
;;; host.
;;;
;;; Code:


;;;
;;; Volumes with data.
;;;

(define %disk-name-rx
  ;; The label of its ext4 file system, "data-NAME", has room for 16 characters.
  (make-regexp "^[a-z0-9]([a-z0-9-]{0,9}[a-z0-9])?$"))

(define %generation-rx
  ;; What the root volumes of a machine are called.
  (make-regexp "^g[0-9]+$"))

(define (check-disk-name value field location)
  (cond ((not (and (string? value) (regexp-exec %disk-name-rx value)))
         (refuse-value value field location
                       "the name of a disk: at most 11 lower-case letters, digits \
and '-', neither starting nor ending with '-'"))
        ((or (string=? "state" value) (regexp-exec %generation-rx value))
         (refuse-value value field location
                       "free: 'state' and names like 'g1' are for volumes that \
pyguixvm makes itself"))
        (else value)))

(define %minimum-data-disk
  ;; mkfs.btrfs refuses anything below 109 MiB.
  (* 128 (expt 1024 2)))

(define (check-disk-size value field location)
  (let ((bytes (check-size value field location)))
    (if (< bytes %minimum-data-disk)
        (refuse-value value field location "at least 128M")
        bytes)))

(define-declaration <data-disk> data-disk %data-disk make-data-disk
  data-disk? this-data-disk data-disk-place
  (name           data-disk-name                 ;string
                  (sanitize check-disk-name))
  (size           data-disk-size                 ;bytes
                  (sanitize check-disk-size)
                  (written bare-word))
  (file-system    data-disk-file-system           ;"ext4" | "btrfs"
                  (default "ext4")
                  (sanitize (check-text-choice "ext4" "btrfs")))
  (target         data-disk-target                ;directory | #f: not mounted
                  (default #f)
                  (sanitize check-target)))

(define %state-disk
  ;; Where the directories of 'persist' are kept.
  (%data-disk (name "state")
              (size (* 256 (expt 1024 2)))
              (target "/var/lib/pyguixvm")))


;;;
;;; Disks of the host.
;;;

(define-record-type <block-device>
  (make-block-device file location)
  block-device?
  (file     block-device-file)                    ;absolute file name
  (location block-device-location))               ;<location> | #f

;; The host's disk FILE, by a name that stays the same.
(define-located (block-device file) block-device*)

(define %unstable-rx
  ;; Linux hands these out in the order in which it finds the disks.
  (make-regexp "^/dev/(sd|vd|hd|xvd|nvme|mmcblk|loop|sr|dm-|md)[^/]*$"))

(define (block-device* file location)
  (unless (and (string? file) (string-prefix? "/dev/" file)
               (not (string-contains file "/../"))
               (not (string-any char-set:iso-control file)))
    (refuse-value file 'block-device location
                  "the file name of a disk below /dev"))
  (when (regexp-exec %unstable-rx file)
    (refuse-value file 'block-device location
                  "a name that stays with its disk"
                  #:hint "Give one below /dev/disk/by-id; 'ls -l /dev/disk/by-id' \
on the hypervisor lists them."))
  (make-block-device file location))

(define (disk? object)
  (or (data-disk? object)
      (block-device? object)))

(define check-disks
  (check-one-or-each
   (check-instance disk? "a disk: (data-disk …) or (block-device FILE)")))


;;;
;;; Directories of the host.
;;;

(define %longest-tag
  ;; What QEMU's 9p takes; virtiofs would take 36.
  31)

(define (check-tag value field location)
  (if (and (string? value)
           (not (string-null? value))
           (<= (string-length value) %longest-tag)
           (not (string-any (lambda (chr)
                              (or (memv chr '(#\/ #\, #\=))
                                  (char-set-contains? char-set:iso-control chr)
                                  (char-set-contains? char-set:whitespace chr)))
                            value)))
      value
      (refuse-value value field location
                    "a tag: at most 31 characters, without spaces, '/', ',' and '='")))

(define (directory->tag directory)
  "Return a tag for what is mounted at DIRECTORY."
  (let ((tag (string-map (lambda (chr)
                           (if (char-set-contains? char-set:letter+digit chr) chr #\-))
                         (substring directory 1))))
    (string-take-right tag (min %longest-tag (string-length tag)))))

(define-declaration <mount-point> mount-point %mount-point make-mount-point
  mount-point? this-mount-point mount-point-place
  (source         mount-point-source             ;directory of the host
                  (sanitize check-directory))
  (target         mount-point-target              ;directory | #f: not mounted
                  (default #f)
                  (sanitize check-target))
  (tag            mount-point-tag                 ;string
                  (otherwise derived-tag)
                  (sanitize check-tag))
  (read-only?     mount-point-read-only?          ;Boolean
                  (default #f)
                  (sanitize check-boolean))
  (driver         mount-point-driver              ;"virtiofs" | "9p" | #f: what there is
                  (default #f)
                  (sanitize (check-text-choice "virtiofs" "9p"))))

(define (derived-tag mount)
  (directory->tag (or (mount-point-target mount)
                      (mount-point-source mount))))

(define check-mount-points
  (check-one-or-each
   (check-instance mount-point? "a 'mount-point' record or a list of them")))
