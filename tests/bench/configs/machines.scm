;;; SPDX-License-Identifier: GPL-3.0-or-later
;; Machines that run one operating system.
(use-modules (srfi srfi-1))                      ;iota

(define os
  (load "system.scm"))

(define (machine number)
  (virtual-machine
    (name (if (= number 1) "bench" (format #f "bench-~a" number)))
    (operating-system os)
    (libvirt-domain
      (memory "MEMORY")
      (maximum-memory 2G)
      (networking
        (mac-address (string-append "52:54:00:be:9c:"
                                    (string-pad (number->string number 16) 2 #\0))))
      (autostart? #f))
    (ready (list READY))
    (ready-timeout 900)))

(map machine (iota COUNT 1))
