;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm services storage)
  #:use-module (pyguixvm storage)
  #:use-module (gnu packages linux)
  #:use-module (gnu services)
  #:use-module (gnu services shepherd)
  #:use-module (guix gexp)
  #:use-module (guix modules)
  #:use-module (srfi srfi-1)
  #:export (persistence-service-type
            growth-service-type))

;;; Commentary:
;;;
;;; What a guest does for its disks and for directories that outlive its root.
;;;
;;; Code:


;;;
;;; Directories that outlive the root.
;;;

(define (persistence-activation directories)
  "Return a gexp that keeps DIRECTORIES on the state disk, which is mounted when it runs."
  (with-imported-modules (source-module-closure '((guix build syscalls)
                                                  (guix build utils)))
    #~(begin
        (use-modules (guix build syscalls) (guix build utils))

        (define (keep directory)
          (let* ((kept  (string-append #$(data-disk-target %state-disk) directory))
                 (fresh (string-append kept ".new")))
            (unless (member directory (mount-points))
              (mkdir-p directory)
              (unless (file-exists? kept)
                ;; By way of another name: it is there with all its content, or not.
                (when (file-exists? fresh)
                  (delete-file-recursively fresh))
                (mkdir-p (dirname kept))
                (copy-recursively directory fresh
                                  #:keep-permissions? #t #:log (%make-void-port "w"))
                (rename-file fresh kept))
              (mount kept directory #f MS_BIND))))

        (for-each keep '#$directories))))

(define persistence-service-type
  (service-type
   (name 'pyguixvm-persist)
   (extensions
    (list (service-extension activation-service-type persistence-activation)))
   (compose concatenate)
   (extend append)
   (default-value '())
   (description
    "Keep directories of a guest on its state disk, so that they outlive its root: each is
mounted from there before all that writes to it.  The value is the list of their names.")))


;;;
;;; File systems that follow their disks.
;;;

(define (growth-shepherd-services disks)
  "Return a service that grows the file systems on DISKS to the size of these, at boot
and whenever it is started again."
  (define file-systems
    (map (lambda (disk)
           (list (data-disk-target disk) (data-disk-file-system disk)))
         disks))

  (define (grow-command type)
    (if (string=? "btrfs" type)
        #~(lambda (device target)
            (invoke #$(file-append btrfs-progs "/bin/btrfs")
                    "filesystem" "resize" "max" target))
        #~(lambda (device target)
            (invoke #$(file-append e2fsprogs "/sbin/resize2fs") device))))

  (list
   (shepherd-service
    (provision '(grow-data-disks))
    (requirement '(file-systems))
    (documentation "Grow the file systems of data disks to the size of these.")
    (one-shot? #t)
    (modules '((guix build syscalls) (guix build utils) (ice-9 match) (srfi srfi-1)))
    (start
     (with-imported-modules (source-module-closure '((guix build syscalls)
                                                     (guix build utils)))
       #~(lambda _
           (define (device-at target)
             (and=> (find (lambda (mount)
                            (string=? target (mount-point mount)))
                          (mounts))
                    mount-source))

           (every (match-lambda
                    ((target grow)
                     (let ((device (device-at target)))
                       (or (not device)
                           (false-if-exception (grow device target))))))
                  (list #$@(map (lambda (spec)
                                  #~(list #$(first spec)
                                          #$(grow-command (second spec))))
                                file-systems)))))))))

(define growth-service-type
  (service-type
   (name 'pyguixvm-grow)
   (extensions
    (list (service-extension shepherd-root-service-type growth-shepherd-services)))
   (compose concatenate)
   (extend append)
   (default-value '())
   (description
    "Grow the file systems of a guest's data disks to the size of these, at boot and
whenever it is started again.  The value is the list of @code{data-disk} records.")))
