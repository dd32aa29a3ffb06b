;;; SPDX-License-Identifier: GPL-3.0-or-later
;; A machine for somebody without rights on the host: no network, and a directory of
;; PYGUIXVM_TEST_SHARED, in which the guest writes what it reads there.
(use-modules (gnu)
             (quick))
(use-service-modules shepherd)
(use-modules (guix gexp))

(define answer
  (simple-service
   'answer shepherd-root-service-type
   (list (shepherd-service
          (provision '(answer))
          (requirement '(file-systems))
          (one-shot? #t)
          (start #~(lambda _
                     (call-with-output-file "/shared/answer"
                       (lambda (port)
                         (display (call-with-input-file "/shared/question" read)
                                  port)))
                     #t))))))

(virtual-machine
  (name "session")
  (operating-system
    (operating-system
      (host-name "session")
      (initrd-modules %quick-initrd-modules)
      (kernel-arguments %quick-kernel-arguments)
      (bootloader (bootloader-configuration
                    (bootloader grub-bootloader)
                    (targets '("/dev/vda"))
                    (timeout 0)))
      (file-systems (cons (file-system
                            (mount-point "/")
                            (device (file-system-label "Guix_image"))
                            (type "ext4"))
                          %base-file-systems))
      (services (cons answer %quick-services))))
  (libvirt-domain
    (storage 4G)
    (memory 512M)
    (networking '())
    (kernel-arguments '("console=ttyS0"))
    (mount-points (mount-point (source (getenv "PYGUIXVM_TEST_SHARED"))
                               (target "/shared")))
    (disks (data-disk (name "db") (size 128M) (target "/srv")))
    (autostart? #f))
  (ready (list (console "login:")))
  (ready-timeout 300))
