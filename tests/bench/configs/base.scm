;;; SPDX-License-Identifier: GPL-3.0-or-later
;; What a user would have; 'guix system' takes it as well as pyguixvm does, which would
;; add to one with sshd what keeps its host keys.
(use-modules (gnu)
             (guix gexp))
(use-service-modules networking virtualization)

;; So many megabytes, half of them as compressible as text.
(define data
  (computed-file "data"
                 #~(begin
                     (use-modules (ice-9 binary-ports)
                                  (rnrs bytevectors))
                     (let ((half (expt 2 19)))
                       (call-with-input-file "/dev/urandom"
                         (lambda (noise)
                           (call-with-output-file #$output
                             (lambda (port)
                               (do ((i 0 (+ i 1)))
                                   ((= i MEGABYTES))
                                 (put-bytevector port
                                                 (get-bytevector-n noise half))
                                 (put-bytevector port
                                                 (make-bytevector half 120)))))))))))

(operating-system
  (host-name "bench")
  (kernel-arguments (cons "console=ttyS0" %default-kernel-arguments))
  (bootloader (bootloader-configuration
                (bootloader grub-bootloader)
                (targets '("/dev/vda"))
                (timeout 0)))
  (file-systems (cons (file-system
                        (mount-point "/")
                        (device (file-system-label "Guix_image"))
                        (type "ext4"))
                      %base-file-systems))
  (services (cons* (service dhcpcd-service-type)
                   (service qemu-guest-agent-service-type)
                   (extra-special-file "/etc/edition" (plain-file "edition" "EDITION"))
                   (append (if (zero? MEGABYTES)
                               '()
                               (list (extra-special-file "/etc/data" data)))
                           %base-services))))
