;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm services storage)
  #:use-module (pyguixvm storage)
  #:use-module (gnu packages linux)
  #:use-module (gnu services)
  #:use-module (gnu services shepherd)
  #:use-module (guix gexp)
  #:use-module (guix modules)
  #:use-module (srfi srfi-1)
  #:export (persistence-service
            growth-service))

;;; Commentary:
;;;
;;; What a guest does for its disks and for directories that outlive its root.
;;;
;;; Code:


;;;
;;; Directories that outlive the root.
;;;

(define (persistence-service directories)
  "Return a service that keeps DIRECTORIES on the state disk, which is mounted when it
runs."
  (simple-service
   'pyguixvm-persist activation-service-type
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

         (for-each keep '#$directories)))))


;;;
;;; File systems that follow their disks.
;;;

(define (growth-service disks)
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

  (simple-service
   'pyguixvm-grow shepherd-root-service-type
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
                                 file-systems))))))))))
