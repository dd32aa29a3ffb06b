;;; SPDX-License-Identifier: GPL-3.0-or-later
;; A machine that is changed while it runs.  Its root may log in by ssh with the key in
;; the file PYGUIXVM_TEST_KEY; PYGUIXVM_TEST_* say how it changes.
(use-modules (gnu)
             (quick))
(use-service-modules networking ssh virtualization)
(use-modules (guix gexp)
             (gnu bootloader))

(define* (setting name default)
  (or (getenv (string-append "PYGUIXVM_TEST_" name)) default))

;; The test bed's guests lack what Guix's own code relies on.  It asks the guest's Guix
;; for the module (gnu), of which it uses nothing, while theirs comes without package
;; definitions: here is an empty one.  It speaks to the Shepherd in /var/run, while theirs
;; listens in /run.  And they have no program 'grub-install': only GRUB's configuration is
;; installed anew.  As for what the guest boots, Guile is not to compile what runs once.
(define stand-in
  (plain-file "gnu.scm" "(define-module (gnu))\n"))

(define grub-without-program
  (bootloader
    (inherit grub-bootloader)
    (installer #~(lambda (grub device mount-point)
                   ;; There is no device when an image is made.
                   (unless device
                     (#$(bootloader-installer grub-bootloader)
                      grub device mount-point))))))

(virtual-machine
  (name "in-place")
  (operating-system
    (operating-system
      (host-name "in-place")
      (initrd-modules %quick-initrd-modules)
      (kernel-arguments %quick-kernel-arguments)
      (bootloader (bootloader-configuration
                    (bootloader grub-without-program)
                    (targets '("/dev/vda"))
                    (timeout 0)))
      (file-systems (cons (file-system
                            (mount-point "/")
                            (device (file-system-label "Guix_image"))
                            (type "ext4"))
                          %base-file-systems))
      (services (cons* (service dhcpcd-service-type
                                (dhcpcd-configuration
                                  (extra-content "noarp\nnodelay\n")))
                       (service openssh-service-type
                                (openssh-configuration
                                  (permit-root-login 'prohibit-password)
                                  (authorized-keys
                                   `(("root" ,(local-file (setting "KEY" "/var/tmp/key.pub")
                                                          "root.pub"))))
                                  (extra-content "SetEnv GUILE_LOAD_PATH=/etc/modules \
GUILE_JIT_THRESHOLD=-1")))
                       (service qemu-guest-agent-service-type)
                       (extra-special-file "/etc/modules/gnu.scm" stand-in)
                       (extra-special-file "/var/run/shepherd" "/run/shepherd")
                       (extra-special-file "/etc/edition"
                                           (plain-file "edition"
                                                       (setting "EDITION" "one")))
                       ;; Else it would not take what a later change sends it.
                       (modify-services %quick-services
                         (guix-service-type
                          config =>
                          (guix-configuration
                            (inherit config)
                            (authorized-keys
                             (append (if (getenv "PYGUIXVM_TEST_DISTRUST")
                                         '()
                                         (list (local-file "/etc/guix/signing-key.pub")))
                                     %default-authorized-guix-keys)))))))))
  (libvirt-domain
    (storage 5G)
    (memory (setting "MEMORY" "640M"))
    (maximum-memory 1G)
    (kernel-arguments (cons "console=ttyS0"
                            (string-tokenize (setting "ARGUMENTS" ""))))
    (networking (mac-address 52:54:00:ab:cd:0a))
    ;; By 9p, with a tag that is no device in the guest.
    (mount-points (mount-point (source "/usr/share/common-licenses")
                               (target "/licenses")
                               (read-only? #t)))
    (autostart? #f))
  (ready (list (address) (guest-agent) (tcp-port 22)))
  (ready-timeout 300))
