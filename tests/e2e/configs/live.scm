;;; SPDX-License-Identifier: GPL-3.0-or-later
;; A machine that is changed while it runs, by its agent alone.  PYGUIXVM_TEST_* say how
;; it changes.
(use-modules (gnu)
             (quick))
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

;; What does not compress, nor is anywhere yet.
(define large-file
  (computed-file "large"
                 (with-imported-modules '((guix build utils))
                   #~(begin
                       (use-modules (guix build utils) (rnrs bytevectors) (ice-9 binary-ports))
                       (let ((block (make-bytevector (expt 2 20))))
                         (let fill ((i 0) (state 12345))
                           (when (< i (bytevector-length block))
                             (bytevector-u8-set! block i (logand (ash state -16) 255))
                             (fill (+ i 1)
                                   (logand (+ (* state 1103515245) 12345) #x7fffffff))))
                         (call-with-output-file #$output
                           (lambda (port)
                             (let repeat ((n #$(string->number (setting "MEGABYTES" "0"))))
                               (unless (zero? n)
                                 (put-bytevector port block)
                                 (repeat (- n 1)))))))))))

(virtual-machine
  (name "live")
  (operating-system
    (operating-system
      (host-name "live")
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
      (services (cons* (service dhcpcd-service-type)
                       (service qemu-guest-agent-service-type)
                       (simple-service 'telling shepherd-root-service-type
                                       services-that-tell)
                       (extra-special-file "/etc/edition"
                                           (plain-file "edition"
                                                       (setting "EDITION" "one")))
                       (append (if (getenv "PYGUIXVM_TEST_MEGABYTES")
                                   (list (extra-special-file "/etc/large" large-file))
                                   '())
                               ;; Making a key pair takes long, at each first boot.
                               (modify-services %base-services
                                 (guix-service-type
                                  config =>
                                  (guix-configuration
                                    (inherit config)
                                    (generate-substitute-key? #f)))))))))
  (libvirt-domain
    (storage 5G)
    (memory 512M)
    (kernel-arguments (cons "console=ttyS0"
                            (string-tokenize (setting "ARGUMENTS" ""))))
    (networking (mac-address 52:54:00:ab:cd:0b))
    (autostart? #f))
  (ready (list (address) (guest-agent)))
  (ready-timeout 300))
