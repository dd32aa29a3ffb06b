;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm machine in-place)
  #:use-module (pyguixvm evaluator failure)
  #:use-module ((pyguixvm evaluator guix) #:select (expect-shared-directories!))
  #:use-module (pyguixvm evaluator handling)
  #:use-module (pyguixvm evaluator store)
  #:use-module (pyguixvm machine advice)
  #:use-module (pyguixvm machine pinned)
  #:use-module (pyguixvm system guest)
  #:use-module (gnu bootloader)
  #:use-module (gnu machine)
  #:use-module (gnu machine ssh)
  #:use-module (gnu services)
  #:use-module (gnu services base)
  #:use-module (gnu services ssh)
  #:use-module (gnu system)
  #:use-module (guix derivations)
  #:use-module (guix diagnostics)
  #:use-module (guix gexp)
  #:use-module (guix i18n)
  #:use-module (guix monads)
  #:use-module (guix pki)
  #:use-module (guix ssh)
  #:use-module (guix store)
  #:use-module (guix utils)
  #:use-module (gcrypt pk-crypto)
  #:use-module (ice-9 match)
  #:use-module (ice-9 rdelim)
  #:use-module (ice-9 textual-ports)
  #:use-module (ssh channel)
  #:use-module (ssh popen)
  #:use-module (ssh session)
  #:use-module (srfi srfi-1)
  #:use-module (srfi srfi-26)
  #:use-module (srfi srfi-34)
  #:export (ssh-port
            trusts?
            host-machine
            boot-directories
            deploy-anew
            prepare-activation
            activate))

;;; Commentary:
;;;
;;; Another system in a guest that runs, by Guix's own deployment: 'managed-host' of
;;; (gnu machine ssh) sends what the guest's store lacks, switches to the system,
;;; upgrades its services and installs its boot loader.
;;;
;;; Code:

(define %guest-daemon
  ;; Where the guest's daemon listens.  'remote-eval' takes the socket of ours for that.
  "/var/guix/daemon-socket/socket")

(define (ssh-port os)
  "Return the port on which OS, as declared, takes connections by ssh."
  (match (find (lambda (service)
                 (eq? openssh-service-type (service-kind service)))
               (operating-system-user-services os))
    (#f      22)
    (service (or (openssh-configuration-port-number (service-value service)) 22))))

(define (key-text key)
  "Return the text of KEY, one that an operating-system trusts, or #f if that is not known
before it is built."
  (cond ((local-file? key)
         (call-with-input-file (local-file-absolute-file-name key)
           get-string-all))
        ((plain-file? key) (plain-file-content key))
        (else #f)))

(define (trusts? os public-key)
  "Return true unless OS, once it is active, is known not to accept store items signed by
the key with the text PUBLIC-KEY.  A system makes the list of whom it trusts anew."
  (define (canonical text)
    (canonical-sexp->string (string->canonical-sexp text)))

  (define services (operating-system-services os))

  (define (trusted? configuration)
    (or (not (guix-configuration-authorize-key? configuration))
        (any (lambda (key)
               (match (key-text key)
                 (#f   #t)
                 (text (string=? (canonical text) (canonical public-key)))))
             ;; These are of Guix's own servers.
             (lset-difference eq?
                              (guix-configuration-authorized-keys configuration)
                              %default-authorized-guix-keys))))

  (or (not (find (lambda (service)
                   (eq? guix-service-type (service-kind service)))
                 services))
      (trusted? (service-value
                 (fold-services services #:target-type guix-service-type)))))

(define (require-trust os)
  "Raise an error unless OS would accept what this machine sends it."
  (unless (file-exists? %public-key-file)
    (raise (formatted-message (G_ "no signing key '~a'") %public-key-file)))
  (unless (trusts? os (call-with-input-file %public-key-file get-string-all))
    (raise (formatted-message
            (G_ "the system would not trust the signing key '~a' of this machine")
            %public-key-file))))

(define (boot-directories os)
  "Return the directories to which the boot loader of OS is installed: on a file system of
its own, which has to be mounted."
  (filter (lambda (target)
            (and (string-prefix? "/" target)
                 (not (string-prefix? "/dev/" target))))
          (bootloader-configuration-targets (operating-system-bootloader os))))

(define (host-machine os address port host-key)
  "Return the <machine> for OS at ADDRESS and PORT.  Its ssh host key is HOST-KEY, as in
a file of public keys."
  (expect-shared-directories!)
  (machine
   (operating-system os)
   (environment managed-host-environment-type)
   (configuration
    (machine-ssh-configuration
     (host-name address)
     (system (%current-system))
     (port port)
     (user "root")
     (host-key host-key)
     ;; Going back is going forward here: what is declared is to be.
     (allow-downgrades? #t)))))

(define (call-with-host config name system root-uuid address host-key prepare proc)
  "Call PROC with a connection to the store, the operating-system of the machine NAME in
CONFIG, its root pinned to ROOT-UUID, and the <machine> at ADDRESS with HOST-KEY that is
to run it; return the JSON that it returns.  The other arguments, and what is returned
otherwise, are as for 'call-with-pinned-system'."
  (call-with-pinned-system
   config name system root-uuid prepare
   (lambda (store machine os)
     (proc store os
           (host-machine os address
                         (ssh-port (effective-operating-system machine))
                         host-key)))))

(define %patience
  ;; Seconds for which a guest may say nothing when it is asked something.
  60)

(define %longest-answer
  ;; Characters of what it says then.
  65536)

(define (what-writes session command)
  "Return what COMMAND, run by the shell at the other end of SESSION, writes, or #f if it
fails."
  (let* ((pipe   (open-remote-input-pipe session command))
         (output (match (get-string-n pipe %longest-answer)
                   ((? eof-object?) "")
                   (text text)))
         (status (channel-get-exit-status pipe)))
    (close-port pipe)
    (and (zero? status) output)))

(define (call-with-shell host proc)
  "Call PROC with a procedure that returns what a command, run by the shell of HOST, writes,
or #f if it fails; raise an error unless HOST lets us in."
  (let* ((configuration (machine-configuration host))
         (address (machine-ssh-configuration-host-name configuration))
         (session (call-with-ssh-advice (machine-display-name host) address
                    (lambda ()
                      (open-ssh-session
                       address
                       #:user (machine-ssh-configuration-user configuration)
                       #:port (machine-ssh-configuration-port configuration)
                       #:host-key (machine-ssh-configuration-host-key configuration)
                       #:timeout %patience)))))
    (dynamic-wind
      (const #t)
      (lambda () (proc (cut what-writes session <>)))
      (cut disconnect! session))))

(define (require-identity host uuid)
  "Raise an error unless HOST is the guest of the domain with UUID.  A guest tells its
address and host key itself: those of another host would lead us there."
  (define told
    (call-with-shell host (cut <> "cat /sys/class/dmi/id/product_uuid")))

  (unless (and told (string-ci=? (string-trim-both told) uuid))
    (raise (formatted-message
            (G_ "what answers at '~a' is not the guest of that machine")
            (machine-ssh-configuration-host-name (machine-configuration host))))))

(define (require-guix host)
  "Raise an error unless HOST has a Guix that can receive store items."
  (unless (call-with-shell host
            (cut <> (string-append "command -v guix && test -S " %guest-daemon)))
    (raise (formatted-message
            (G_ "the guest has no Guix at work: no 'guix', or no daemon at '~a'")
            %guest-daemon))))

(define (require-boot-directories host os)
  "Raise an error unless the boot loader of OS can be installed at HOST."
  (call-with-shell host
    (lambda (ask)
      (for-each (lambda (directory)
                  (unless (ask (format #f "grep ' ~a ' /proc/mounts" directory))
                    (raise (formatted-message
                            (G_ "nothing is mounted at '~a', where the boot loader is to \
be installed")
                            directory))))
                (boot-directories os)))))

(define (system-of host)
  "Return the systems that HOST runs and is to boot, or #f if it does not say: as long as
they are the same, nothing was activated there.  Raise an error unless it lets us in."
  (call-with-shell host
    (cut <> "readlink -f /run/current-system /var/guix/profiles/system")))

(define* (prepare-activation config name #:key system root-uuid address host-key uuid
                             (prepare (const #t)))
  "Build what 'activate' with the same arguments needs, and see whether it would be let
in.  Nothing is changed in the guest."
  (define (build store os host)
    (require-trust os)
    (require-identity host uuid)
    (run-with-guix store
      (mlet* %store-monad ((drv     (lower-object os))
                           (bootcfg (lower-object (operating-system-bootcfg os))))
        (built-derivations (list drv bootcfg))))
    (require-guix host)
    (require-boot-directories host os)
    '(("prepared" . #t)))

  (call-with-host config name system root-uuid address host-key prepare build))

(define %longest-message
  ;; Characters that a person reads of what went wrong in a guest.
  300)

(define (read-what-boots port)
  "Return kernel, initrd and kernel arguments that PORT tells, as 'boots-by' asks for them, or
#f if it tells none."
  (let* ((kernel (read-line port))
         (initrd (read-line port)))
    (match (read port)
      (('boot-parameters . fields)
       (list kernel initrd (assq-ref fields 'kernel-arguments)))
      (_ #f))))

(define (boots-by ask system)
  "Return by what SYSTEM, \"booted\" or \"current\", of the host whose shell ASK asks is booted:
kernel, initrd and kernel arguments."
  (or (and=> (ask (format #f "cd /run/~a-system && readlink kernel initrd && cat parameters"
                          system))
             (cut call-with-input-string <> read-what-boots))
      (raise (formatted-message (G_ "the guest does not say what it boots by")))))

(define (kernel-loaded? ask)
  "Return true if the kernel of the host whose shell ASK asks was given another one, to boot
by kexec(8)."
  (and (ask "grep 1 /sys/kernel/kexec_loaded") #t))

(define %unload-kernel
  ;; Have the kernel forget that; return true if it does not.
  (with-imported-modules '((guix build syscalls))
    #~(begin
        (use-modules (guix build syscalls))
        (not (false-if-exception
              (begin
                ;; 1 is KEXEC_FILE_UNLOAD of <linux/kexec.h>: no files are looked at.
                (kexec-load-file -1 -1 "" 1)
                #t))))))

(define* (deploy-anew host #:key (with-shell (cut call-with-shell host <>)))
  "Have HOST run its system; return, as a monadic value, whether it was booted by what that
does not boot by, and whether it can boot by that without its hypervisor: 'managed-host' has
its kernel take it for kexec(8).  WITH-SHELL is as 'call-with-shell' for HOST."
  ;; Guix only warns where the kernel does not take ours; then one that it has already would
  ;; be booted.  Whoever is let in once more, and told that, can be helped later.
  (mlet* %store-monad ((kept? (if (with-shell kernel-loaded?)
                                  (machine-remote-eval host %unload-kernel)
                                  (return #f)))
                       (done  (deploy-machine host)))
    (return (with-shell
             (lambda (ask)
               (list (not (equal? (boots-by ask "booted") (boots-by ask "current")))
                     (and (kernel-loaded? ask) (not kept?))))))))

(define* (activate config name #:key system root-uuid address host-key uuid
                   (prepare (const #t)))
  "Have the guest at ADDRESS, whose ssh host key is HOST-KEY or else known to the user, and
which takes itself for the domain with UUID, run the operating-system of the machine NAME
in CONFIG, which SYSTEM identifies, with its root on the file system with ROOT-UUID.
Return JSON: whether a RESTART is wanted, since it was booted by another kernel, initrd, or
other arguments, and whether its KERNEL is LOADED for kexec.  A failure is of kind
'half-done where the guest may have changed.  What is reported goes to the standard error
port."
  (define (deploy store host)
    (parameterize ((%daemon-socket-uri %guest-daemon))
      (guard (c ((deploy-error? c)
                 ;; What happened, without the advice to roll back: that is up to us.
                 (apply throw (deploy-error-captured-args c))))
        (run-with-guix store
          (deploy-anew host)))))

  (define (half-done failure)
    (make-failure 'half-done (failure-message failure) (failure-hint failure) #f))

  (define (brief failure)
    ;; An exception of another Guile's comes with all of its fields.
    (let ((message (failure-message failure)))
      (make-failure (failure-kind failure)
                    (if (> (string-length message) %longest-message)
                        (string-append (string-take message %longest-message) "…")
                        message)
                    (failure-hint failure) #f)))

  (define (what-became failure host before)
    ;; A guest that is what it was needs nothing but to be left alone.
    (let ((failure (brief failure)))
      (if (and before (equal? before (false-if-exception (system-of host))))
          failure
          (half-done failure))))

  (define (deploy-and-see store os host)
    (require-identity host uuid)
    (define before
      (system-of host))

    (match (call-with-failure-handling (cut deploy store host))
      ((? failure? failure) (failure->json (what-became failure host before)))
      ((restart? loaded?)   `(("activated" . #t)
                              ("restart" . ,restart?)
                              ("kernel-loaded" . ,loaded?)))))

  (call-with-host config name system root-uuid address host-key prepare
                  deploy-and-see))
