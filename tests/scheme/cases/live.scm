;;; SPDX-License-Identifier: GPL-3.0-or-later

;; What has a running guest follow another system, as far as no guest is needed.

(use-modules (pyguixvm build live)
             (pyguixvm build registration)
             (guix build utils)
             ((guix store database) #:select (call-with-database))
             (guix utils)
             (ice-9 textual-ports)
             (sqlite3)
             (srfi srfi-1)
             (srfi srfi-11)
             (srfi srfi-26)
             (srfi srfi-64))

(define (call-with-directory proc)
  "Call PROC with a procedure that returns the name of a file in a new directory."
  (call-with-temporary-directory
   (lambda (directory)
     (proc (lambda (name)
             (string-append directory "/" name))))))

(define (write-file file text)
  (mkdir-p (dirname file))
  (call-with-output-file file (lambda (port) (display text port))))

(define (read-file file)
  (call-with-input-file file get-string-all))

(test-begin "live")


;;; The profile.

(define (call-with-profile proc)
  "Call PROC with the name of a profile that has the generations 1, which it points to,
and 9."
  (call-with-directory
   (lambda (file)
     (mkdir (file "profiles"))
     (symlink "/one" (file "profiles/system-1-link"))
     (symlink "/nine" (file "profiles/system-9-link"))
     (symlink "system-1-link" (file "profiles/system"))
     (proc (file "profiles/system")))))

(define (now profile)
  (list (readlink profile)
        (readlink (string-append (dirname profile) "/" (readlink profile)))))

(test-equal "another system is another generation"
  '(10 ("system-10-link" "/two"))
  (call-with-profile
   (lambda (profile)
     (let ((number (switch-profile "/two" profile)))
       (list number (now profile))))))

(test-equal "the system that is there is none"
  '(#f ("system-1-link" "/one"))
  (call-with-profile
   (lambda (profile)
     (let ((number (switch-profile "/one" profile)))
       (list number (now profile))))))

(test-equal "a generation that was not switched to is taken"
  '(9 ("system-9-link" "/nine"))
  (call-with-profile
   (lambda (profile)
     ;; What an ended one leaves.
     (symlink "system-1-link" (string-append profile ".new"))
     (let ((number (switch-profile "/nine" profile)))
       (list number (now profile))))))

(test-equal "a profile that is not there is made"
  '(1 ("system-1-link" "/one"))
  (call-with-directory
   (lambda (file)
     (let ((number (switch-profile "/one" (file "var/profiles/system"))))
       (list number (now (file "var/profiles/system")))))))


;;; The boot loader's configuration.

(test-equal "the boot loader's configuration is there, and kept from being garbage"
  '(#t #f "menu" #t)
  (call-with-directory
   (lambda (file)
     (write-file (file "item") "menu")
     (let* ((install  (lambda ()
                        (install-boot-configuration (file "item") (file "boot/grub.cfg")
                                                    (file "roots/bootcfg"))))
            (changed  (install))
            (again    (install)))
       (list changed again (read-file (file "boot/grub.cfg"))
             (string=? (file "item") (readlink (file "roots/bootcfg"))))))))


;;; Services.

(test-equal "the files of a system's services, in their order"
  '("/gnu/store/b-shepherd-web.go" "/gnu/store/a-shepherd-file-system--dev.go")
  (call-with-directory
   (lambda (file)
     (write-file (file "x-shepherd.conf")
                 "(map load '(\"/gnu/store/b-shepherd-web.go\" \
\"/gnu/store/a-shepherd-file-system--dev.go\"))")
     (write-file (file "system/boot")
                 (string-append "(execl \"/gnu/store/s-shepherd-1/bin/shepherd\" \"shepherd\" \
\"--config\" \"" (file "x-shepherd.conf") "\")"))
     (service-files (file "system")))))

(define %live
  '(((root shepherd) () #f #t)
    ((same) () #f #t)
    ((web httpd) () #f #t)
    ((base) () #f #t)
    ((over-base) (base) #f #t)
    ((under-stopped) () #f #t)
    ((stopped) (under-stopped) #f #f)
    ((qemu-guest-agent) () #f #t)
    ((once) () #f #f)
    ((changed-once) () #f #f)
    ((gone) () #f #t)))

(define %wanted
  '((same #f) (web #t) (base #t) (over-base #f) (under-stopped #t) (stopped #f)
    (qemu-guest-agent #t) (once #f) (changed-once #t) (new #t)))

(define* (plan-of live wanted loaded #:optional (carrier 'qemu-guest-agent))
  "Return the plan for services WANTED, each a name and whether it has changed."
  (let-values ((lists (plan-services
                       live
                       (map (lambda (service)
                              (let ((name (first service)))
                                (list (list name)
                                      (not (eq? name 'stopped))
                                      (->bool (memq name '(once changed-once))))))
                            wanted)
                       (map (lambda (service)
                              (string-append (symbol->string (first service))
                                             (if (second service) ".new" "")))
                            wanted)
                       loaded
                       carrier)))
    lists))

(define %loaded
  (map (lambda (service) (symbol->string (first service))) %wanted))

(test-equal "what changed is loaded and restarted, unless others would stop with it"
  '((gone)
    ("web.new" "base.new" "under-stopped.new" "qemu-guest-agent.new" "changed-once.new"
     "new.new")
    (changed-once new)
    (web under-stopped)
    (base qemu-guest-agent))
  (plan-of %live %wanted %loaded))

(test-equal "over ssh, the agent is restarted and the server is not"
  '(() ("ssh-daemon.new" "qemu-guest-agent.new") () (qemu-guest-agent) (ssh-daemon))
  (plan-of '(((root shepherd) () #f #t)
             ((ssh-daemon ssh sshd) () #f #t)
             ((qemu-guest-agent) () #f #t))
           '((ssh-daemon #t) (qemu-guest-agent #t))
           '("ssh-daemon" "qemu-guest-agent")
           'ssh-daemon))

(test-equal "where nothing changed, nothing is done"
  '(() () () () ())
  (plan-of (remove (lambda (service) (eq? 'gone (first (first service)))) %live)
           (map (lambda (service) (list (first service) #f))
                (remove (lambda (service) (eq? 'new (first service))) %wanted))
           %loaded))

(test-equal "what was unloaded by hand is loaded"
  '(() ("same") (same) () ())
  (plan-of '(((root shepherd) () #f #t)) '((same #f)) '("same")))


;;; The kernel.

(define (call-with-system initrd proc)
  "Call PROC with a directory that is a system with INITRD, and with one that has another."
  (call-with-directory
   (lambda (file)
     (for-each (lambda (name initrd)
                 (mkdir (file name))
                 (symlink "/linux" (file (string-append name "/kernel")))
                 (symlink initrd (file (string-append name "/initrd")))
                 (write-file (file (string-append name "/parameters"))
                             "(boot-parameters (version 0) (kernel-arguments (\"quiet\")))"))
               '("booted" "new")
               (list "/initrd" initrd))
     (proc (file "new") (file "booted")))))

(define (failing)
  (error "not permitted"))

(test-equal "what was booted by the same needs no restart, and loads nothing"
  #f
  (call-with-system "/initrd" (cut restart-wanted <> failing <>)))

(test-equal "where nobody knows what was booted, whoever loads a kernel does"
  '(kexec boot #f)
  (map (lambda (load-kernel)
         (call-with-system "/initrd"
           (lambda (new booted)
             (restart-wanted new load-kernel (string-append booted "/gone")))))
       (list (const #t) failing #f)))

(test-equal "what was booted by something else boots by what was loaded, or by a restart"
  '(kexec boot boot)
  (map (lambda (load-kernel)
         (call-with-system "/other" (cut restart-wanted <> load-kernel <>)))
       (list (const #t) failing #f)))


;;; Registration.

(define %known "/gnu/store/00000000000000000000000000000000-known")
(define %new "/gnu/store/11111111111111111111111111111111-new")
(define %other "/gnu/store/22222222222222222222222222222222-other")

(define %items
  `((,%new "sha256:aa" 120 (,%known ,%other ,%new))
    (,%other "sha256:bb" 130 ())))

(define (references database)
  "Return the items that DATABASE lists, each with one that it refers to, or #f."
  (let* ((db   (sqlite-open database))
         (rows (sqlite-prepare db "select v.path, v.narSize, r.path from ValidPaths v \
left join Refs on Refs.referrer = v.id left join ValidPaths r on r.id = Refs.reference \
order by v.path, r.path"))
         (found (sqlite-map vector->list rows)))
    (sqlite-finalize rows)
    (sqlite-close db)
    found))

(test-equal "items are listed with what they refer to, however often that is done"
  `((,%known 7 #f) (,%new 120 ,%known) (,%new 120 ,%new) (,%new 120 ,%other)
    (,%other 130 #f))
  (call-with-directory
   (lambda (file)
     (call-with-database (file "db.sqlite") (const #t))
     (register-items `((,%known "sha256:cc" 7 ())) (file "db.sqlite"))
     (register-items %items (file "db.sqlite"))
     (register-items %items (file "db.sqlite"))
     (references (file "db.sqlite")))))

(test-end "live")
