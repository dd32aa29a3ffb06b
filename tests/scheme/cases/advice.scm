;;; SPDX-License-Identifier: GPL-3.0-or-later

;; What to do when a guest does not let us in, whatever language Guix says that in.

(use-modules (pyguixvm evaluator failure)
             (pyguixvm evaluator handling)
             (pyguixvm machine advice)
             (pyguixvm machine libvirt)
             (gnu machine)
             (guix diagnostics)
             (guix gexp)
             (guix i18n)
             (ice-9 match)
             (ice-9 textual-ports)
             (srfi srfi-1)
             (srfi srfi-34)
             (srfi srfi-35)
             (srfi srfi-64)
             ((tests systems) #:select (%os)))

(define (hint-of object)
  "Return the hint that comes of OBJECT, raised on the way to a guest, or #f."
  (failure-hint
   (call-with-failure-handling
    (lambda ()
      (call-with-ssh-advice "web" "192.0.2.1"
        (lambda ()
          (raise object)))))))

(define (hint-has? object . texts)
  (let ((hint (hint-of object)))
    (every (lambda (text)
             (string-contains hint text))
           texts)))

(define (in-german thunk)
  "Call THUNK where Guix's catalogue says all in one other word."
  (let ((translate gettext))
    (dynamic-wind
      (lambda ()
        (module-set! (resolve-module '(pyguixvm machine advice)) 'gettext
                     (lambda (text . _)
                       (string-append "Anmeldung: " text))))
      thunk
      (lambda ()
        (module-set! (resolve-module '(pyguixvm machine advice)) 'gettext
                     translate)))))

(test-begin "advice")

(test-assert "no key of ours"
  (hint-has? (condition
              (&message
               (message "SSH authentication failed for 'root@192.0.2.1': denied\n")))
             "authorized-keys"))

(test-assert "nor in another language"
  (in-german
   (lambda ()
     (hint-has? (condition
                 (&message
                  (message "Anmeldung: SSH authentication failed for 'root@x': nein")))
                "authorized-keys"))))

(test-assert "an unknown host key"
  (hint-has? (formatted-message (G_ "failed to authenticate server at '~a': ~a")
                                "192.0.2.1" "not-known")
             "pyguixvm console web" "ssh root@192.0.2.1"))

(test-assert "no sshd"
  (hint-has? (formatted-message (G_ "SSH connection to '~a' port ~a failed: ~a~%")
                                "192.0.2.1" 22 "refused")
             "openssh-service-type"))

(test-equal "anything else is left as it is"
  #f
  (hint-of (formatted-message (G_ "something else at '~a'") "192.0.2.1")))

;; Of Guix's own source: another wording would go without advice.
(test-assert "these are the words of this Guix"
  (let ((source (call-with-input-file (search-path %load-path "guix/ssh.scm")
                  get-string-all)))
    (every (lambda (text)
             (string-contains source text))
           '("SSH authentication failed for '~a@~a': ~a~%"
             "SSH connection to '~a' port ~a failed: ~a~%"))))

(define (remote-eval-hint configuration)
  "Return the hint of 'guix deploy -x' for a machine with CONFIGURATION, in one line."
  (string-map
   (lambda (chr)
     (if (char=? chr #\newline) #\space chr))
   (failure-hint
    (call-with-failure-handling
     (lambda ()
       (machine-remote-eval
        (machine
         (operating-system %os)
         (environment libvirt-environment-type)
         (configuration configuration))
        #~(pk)))))))

(test-equal "what runs a command in a guest is told with its hypervisor"
  '("Run `pyguixvm ssh web -- COMMAND'."
    "Run `pyguixvm ssh --connect 'qemu+ssh://root@far/system' web -- COMMAND'.")
  (map remote-eval-hint
       (list (libvirt-configuration (name "web"))
             (libvirt-configuration (name "web")
                                    (hypervisor "qemu+ssh://root@far/system")))))

(test-end "advice")
