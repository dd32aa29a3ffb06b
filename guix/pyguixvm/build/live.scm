;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm build live)
  #:use-module (pyguixvm build services)
  #:use-module (gnu services herd)
  #:use-module (ice-9 match)
  #:use-module (ice-9 regex)
  #:use-module (ice-9 textual-ports)
  #:use-module (srfi srfi-1)
  #:use-module (srfi srfi-11)
  #:use-module (srfi srfi-26)
  #:export (switch-profile
            install-boot-configuration
            service-files
            plan-services
            boots-by
            restart-wanted
            switch-system))

;;; Commentary:
;;;
;;; Another system in the guest that this runs in: what 'guix system reconfigure' does,
;;; (guix scripts system reconfigure), without Guix.  Every step can be done again: ended
;;; anywhere, it is mended by the next one.  What was done is written to standard output,
;;; a line each.
;;;
;;; Code:

(define %profile "/var/guix/profiles/system")

(define %loaded
  ;; What the Shepherd was given, and in which boot.
  "/run/pyguixvm-services")

(define (say . words)
  (format #t "~{~a~^ ~}~%" words)
  (force-output))


;;;
;;; Files.
;;;

(define (switch-symlink link target)
  "Have LINK point to TARGET, whatever it is, in one go."
  (let ((pivot (string-append link ".new")))
    (false-if-exception (delete-file pivot))
    (symlink target pivot)
    (rename-file pivot link)))

(define (target link)
  (false-if-exception (readlink link)))

(define (make-directories directory)
  (unless (file-exists? directory)
    (make-directories (dirname directory))
    (mkdir directory)))

(define (write-file file text)
  "Have FILE hold TEXT, or what it did before."
  (make-directories (dirname file))
  (let ((new (string-append file ".new")))
    (call-with-output-file new
      (lambda (port)
        (put-string port text)
        (force-output port)
        (fsync port)))
    (rename-file new file)))

(define (read-file file)
  (call-with-input-file file get-string-all #:encoding "UTF-8"))

(define* (switch-profile system #:optional (profile %profile))
  "Have PROFILE point to a generation that is SYSTEM, a store item: to a new one unless it
is the one it points to.  Return the number of a new one, or #f."
  (define directory (dirname profile))

  (define generation-rx
    (make-regexp (string-append "^" (regexp-quote (basename profile))
                                "-([0-9]+)-link$")))

  (define (generation number)
    (string-append (basename profile) "-" (number->string number) "-link"))

  (define (numbers)
    (let ((stream (opendir directory)))
      (let loop ((numbers '()))
        (match (readdir stream)
          ((? eof-object?)
           (closedir stream)
           numbers)
          (name
           (loop (match (regexp-exec generation-rx name)
                   (#f    numbers)
                   (found (cons (string->number (match:substring found 1))
                                numbers)))))))))

  (define (in-directory name)
    (string-append directory "/" name))

  (make-directories directory)
  (match (target profile)
    ((and (? string?)
          (= (cut string-append directory "/" <>)
             (= target (? (cut equal? system <>)))))
     #f)
    (_
     (let* ((last   (apply max 0 (numbers)))
            ;; One that was made and not switched to is taken.
            (number (if (equal? system (target (in-directory (generation last))))
                        last
                        (+ last 1))))
       (switch-symlink (in-directory (generation number)) system)
       (switch-symlink profile (generation number))
       number))))

(define* (install-boot-configuration item file
                                     #:optional (root "/var/guix/gcroots/bootcfg"))
  "Have FILE, which the boot loader reads, hold what the store item ITEM does, and protect
what that refers to from the garbage collector by ROOT.  Return true if it did not."
  (make-directories (dirname root))
  (switch-symlink root item)
  (let ((text (read-file item)))
    (and (not (equal? text (false-if-exception (read-file file))))
         (begin
           (write-file file text)
           #t))))


;;;
;;; Services.
;;;

(define (matches regexp text)
  (map match:substring (list-matches regexp text)))

(define (service-files system)
  "Return the files from which the Shepherd of SYSTEM, a directory, has its services, in
their order."
  (match (matches "/[^ \"()]+-shepherd\\.conf"
                  (read-file (string-append system "/boot")))
    ((configuration _ ...)
     (matches "/[^ \"()]+/[^ \"()/]+-shepherd-[^ \"()]*\\.go" (read-file configuration)))
    (()
     (error "no configuration of the Shepherd in" system))))

(define* (plan-services live wanted files loaded
                        #:optional (carrier 'qemu-guest-agent))
  "Return which services of a Shepherd that has LIVE and got LOADED, files, are to be
unloaded, the files to be loaded, and which services are to be started, to be
restarted, and left running as they are until they are restarted: five lists.  WANTED are
the services that it is to have, of FILES.  LIVE is as for 'obsolete-services'; an
element of WANTED is (PROVISION AUTO-START? ONE-SHOT?).

What has changed is restarted unless something else that runs would be stopped with it,
or this program, which CARRIER runs."
  (define plain
    (map (cut take <> 2) wanted))

  (define there
    (append-map first live))

  (define changed
    (filter-map (match-lambda*
                  ((((name . _) _ _) file)
                   (and (not (and (member file loaded) (memq name there)))
                        (cons name file))))
                wanted files))

  (define one-shot
    (filter-map (match-lambda
                  (((name . _) _ one-shot?) (and one-shot? name)))
                wanted))

  (define running
    (filter fourth live))

  (define (stops-others? service)
    (any (match-lambda
           ((_ requirement _ _)
            (any (cut memq <> requirement) (first service))))
         running))

  (define-values (left restarted)
    (partition (lambda (service)
                 (or (memq carrier (first service))
                     (stops-others? service)))
               (filter (lambda (service)
                         (assq (first (first service)) changed))
                       running)))

  (values (obsolete-services live plain)
          (map cdr changed)
          (remove (lambda (name)
                    (and (memq name one-shot) (not (assq name changed))))
                  (services-to-start live plain))
          (map caar restarted)
          (map caar left)))

(define (load-there files)
  "Have the Shepherd take the services in FILES, as its configuration does."
  (eval-there
   `(register-services
     (map (lambda (file)
            (save-module-excursion
             (lambda ()
               (let ((module (make-fresh-user-module)))
                 (module-use! module (resolve-interface '(shepherd service)))
                 (set-current-module module)
                 (load-compiled file)))))
          ',files))))

(define (live-services)
  (map (lambda (service)
         (list (live-service-provision service)
               (live-service-requirement service)
               (live-service-transient? service)
               (->bool (live-service-running service))))
       (or (current-services)
           (error "the Shepherd does not answer"))))

(define (boot-id)
  (read-file "/proc/sys/kernel/random/boot_id"))

(define (loaded-files)
  "Return the files from which the Shepherd has its services, as far as that is known."
  (match (false-if-exception (call-with-input-file %loaded read))
    (((? (cut equal? (boot-id) <>)) files ...)
     files)
    (_
     (or (false-if-exception (service-files "/run/booted-system"))
         '()))))

(define (attempt what name proc)
  "Call PROC with NAME and say WHAT was done to it, or that it was not."
  (say (if (false-if-exception (begin (proc name) #t)) what "failed")
       name))

(define (upgrade-services system wanted)
  "Have the Shepherd run the services of SYSTEM, which are WANTED."
  (let ((files  (service-files system))
        (loaded (loaded-files)))
    (unless (= (length files) (length wanted))
      (error "the Shepherd's configuration is not as expected" system))
    (let-values (((unload load start restart left)
                  (plan-services (live-services) wanted files loaded
                                 (if (getenv "SSH_CONNECTION")
                                     'ssh-daemon
                                     'qemu-guest-agent))))
      (for-each (cut attempt "removed" <> unload-service) unload)
      (unless (null? load)
        (load-there load))
      (for-each (cut attempt "restarted" <> restart-service) restart)
      (for-each (cut attempt "started" <> start-service) start)
      (for-each (cut say "left" <>) left)
      (write-file %loaded (object->string (cons (boot-id) files))))))

(define %sockets
  '("/var/run/shepherd/socket" "/run/shepherd/socket"))


;;;
;;; The kernel.
;;;

(define (boots-by system)
  "Return what SYSTEM, a directory, is booted by, or #f if that is not known."
  (false-if-exception
   (list (readlink (string-append system "/kernel"))
         (readlink (string-append system "/initrd"))
         (call-with-input-file (string-append system "/parameters")
           (lambda (port)
             (assq-ref (cdr (read port)) 'kernel-arguments))))))

(define* (restart-wanted system load-kernel #:optional (booted "/run/booted-system"))
  "Return #f if a guest that was BOOTED, a directory, boots by the same as SYSTEM.  Otherwise
return 'kexec if LOAD-KERNEL, a procedure or #f, has the kernel take what SYSTEM boots by,
and 'boot if it does not.  Where nobody knows what it was booted by, that there is a
LOAD-KERNEL says that it was another one."
  (let ((before (boots-by booted)))
    (and (if before
             (not (equal? before (boots-by system)))
             load-kernel)
         (if (and load-kernel (false-if-exception (begin (load-kernel) #t)))
             'kexec
             'boot))))


;;;
;;; All of it.
;;;

(define* (switch-system system #:key boot-configuration boot-configuration-file
                        services register load-kernel)
  "Have this guest run SYSTEM, a store item that is there, now and after its next boot,
for which the file BOOT-CONFIGURATION-FILE is to hold what BOOT-CONFIGURATION does.
SERVICES are those of SYSTEM, as for 'plan-services'.  REGISTER is called first: it
registers what came with SYSTEM.  LOAD-KERNEL is as for 'restart-wanted'."
  (register)
  (and=> (switch-profile system)
         (cut say "generation" <>))
  (when (install-boot-configuration boot-configuration boot-configuration-file)
    (say "boot-configuration" boot-configuration-file))
  (sync)
  (setenv "GUIX_NEW_SYSTEM" (string-append (dirname %profile) "/" (readlink %profile)))
  (parameterize ((current-output-port (current-error-port)))
    (primitive-load (string-append system "/activate")))
  (unless (equal? system (target "/run/current-system"))
    (switch-symlink "/run/current-system" system))
  (say "activated" system)
  (parameterize ((%shepherd-socket-file (or (find file-exists? %sockets)
                                            (first %sockets)))
                 (shepherd-message-port (current-error-port)))
    (upgrade-services system services))
  (and=> (restart-wanted system load-kernel)
         (cut say "restart" <>))
  (say "done"))
