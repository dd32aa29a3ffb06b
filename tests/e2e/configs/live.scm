;;; SPDX-License-Identifier: GPL-3.0-or-later
;; A machine that is changed while it runs, by its agent alone.  PYGUIXVM_TEST_* say how
;; it changes.
(use-modules (gnu))
(use-service-modules networking shepherd virtualization)
(use-modules (guix gexp))

(define* (setting name default)
  (or (getenv (string-append "PYGUIXVM_TEST_" name)) default))

(define (telling name text needed)
  "Return a service NAME that tells TEXT, in a file of its name, when it starts."
  (shepherd-service
    (provision (list name))
    (requirement needed)
    (start #~(lambda _
               (call-with-output-file #$(string-append "/run/" (symbol->string name))
                 (lambda (port)
                   (display #$text port)))
               #t))
    (stop #~(const #f))))

(define services-that-tell
  (append
   (list (telling 'teller (setting "TELLER" "one") '())
         (telling 'below (setting "BELOW" "one") '())
         (telling 'above "one" '(below)))
   (if (getenv "PYGUIXVM_TEST_NEWCOMER")
       (list (telling 'newcomer "here" '()))
       '())))

(virtual-machine
  (name "live")
  (operating-system
    (operating-system
      (host-name "live")
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
                       (simple-service 'telling shepherd-root-service-type
                                       services-that-tell)
                       (extra-special-file "/etc/edition"
                                           (plain-file "edition"
                                                       (setting "EDITION" "one")))
                       %base-services))))
  (libvirt-domain
    (storage 5G)
    (memory 1G)
    (kernel-arguments (cons "console=ttyS0"
                            (string-tokenize (setting "ARGUMENTS" ""))))
    (networking (mac-address 52:54:00:ab:cd:0b))
    (autostart? #f))
  (ready (list (address) (guest-agent)))
  (ready-timeout 300))
