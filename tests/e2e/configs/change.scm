;;; SPDX-License-Identifier: GPL-3.0-or-later
;; A machine that changes.  PYGUIXVM_TEST_* say how; PYGUIXVM_TEST_BROKEN leaves
;; out of the system what its readiness asks for, PYGUIXVM_TEST_UNSEEN its readiness;
;; PYGUIXVM_TEST_NAMES adds directories whose names are not everyday ones.
(use-modules (gnu)
             (quick))
(use-service-modules networking virtualization)

(define* (setting name default)
  (or (getenv (string-append "PYGUIXVM_TEST_" name)) default))

(define (named names)
  "Return a directory that has a file of each of NAMES, a link to it, and directories."
  (computed-file "named"
                 #~(begin
                     (setlocale LC_ALL "C.UTF-8")
                     (mkdir #$output)
                     (chdir #$output)
                     (for-each (lambda (name number)
                                 (mkdir (format #f "~a" number))
                                 (mkdir (format #f "~a/~a" number name))
                                 (with-output-to-file (format #f "~a/~a/~a" number name name)
                                   (lambda () (display name)))
                                 (symlink name (format #f "~a/~a/link" number name)))
                               '#$names
                               '#$(iota (length names))))))

(define names
  (list (named (list "<2>" "a \"b\"  c" "-f" "#" "'" "\\" "ü" (make-string 255 #\x)))
        ;; debugfs cannot be told of these.
        (named (list "one\ntwo" "a\tb"))))

(define reachable
  (list (service dhcpcd-service-type
                 (dhcpcd-configuration
                   (extra-content "noarp\nnodelay\n")))
        (service qemu-guest-agent-service-type)))

(deployment
  (name "change")
  (machines
   (list (virtual-machine
           (name (setting "NAME" "change"))
           (operating-system
             (operating-system
               (host-name "change")
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
               (users (append (map (lambda (name)
                                     (user-account (name name) (group "users")))
                                   (string-tokenize (setting "USERS" "")))
                              %base-user-accounts))
               (packages (append (map specification->package
                                      (string-tokenize (setting "PACKAGES" "")))
                                 %base-packages))
               (services (append (if (getenv "PYGUIXVM_TEST_BROKEN") '() reachable)
                                 (list (extra-special-file
                                        "/etc/edition"
                                        (plain-file "edition" (setting "EDITION" "one"))))
                                 (if (getenv "PYGUIXVM_TEST_NAMES")
                                     (list (simple-service 'names etc-service-type
                                                           (map list '("told" "copied") names)))
                                     '())
                                 (map (lambda (name)
                                        (simple-service (string->symbol name)
                                                        etc-service-type
                                                        (list (list name (plain-file name name)))))
                                      (string-tokenize (setting "SERVICES" "")))
                                 %quick-services))))
           (libvirt-domain
             (cpu (string->number (setting "CPU" "1")))
             (maximum-cpu 3)
             (memory (setting "MEMORY" "512M"))
             (maximum-memory 1G)
             (storage 5G)
             (kernel-arguments (cons "console=ttyS0"
                                     (string-tokenize (setting "ARGUMENTS" ""))))
             (networking (cons (networking (mac-address (setting "MAC" "52:54:00:ab:cd:01")))
                               (if (getenv "PYGUIXVM_TEST_SECOND")
                                   (list (networking (mac-address "52:54:00:ab:cd:02")))
                                   '())))
             (autostart? #f))
           (ready (if (getenv "PYGUIXVM_TEST_UNSEEN")
                      '()
                      (list (address) (console "login:") (guest-agent))))
           (ready-timeout (string->number (setting "TIMEOUT" "300")))))))
