;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm services power)
  #:use-module (gnu services)
  #:use-module (guix gexp)
  #:export (shutdown-service))

;;; Commentary:
;;;
;;; QEMU's guest agent runs /sbin/shutdown when a hypervisor wants the guest to shut
;;; down or to reboot, with options that the Shepherd's own command does not know
;;; ("qmp_guest_shutdown" in QEMU's qga/commands-posix.c).  A Guix System has no such
;;; file: without this service, or elogind, which handles the power button, its guests
;;; can only be powered off.
;;;
;;; Code:

(define %shutdown
  (program-file
   "shutdown"
   #~(let ((program (if (member "-r" (command-line)) "reboot" "shutdown")))
       (execl (string-append "/run/current-system/profile/sbin/" program)
              program))))

(define shutdown-service
  ;; For the services of an operating-system that has qemu-guest-agent-service-type.
  (simple-service 'pyguixvm-shutdown special-files-service-type
                  `(("/sbin/shutdown" ,%shutdown))))
