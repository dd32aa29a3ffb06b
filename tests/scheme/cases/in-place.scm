;;; SPDX-License-Identifier: GPL-3.0-or-later

;; The operating-system that a running guest gets, and what is asked of it before.

(use-modules (pyguixvm machine in-place)
             (pyguixvm machine pinned)
             (gnu machine)
             (gnu services)
             (gnu services base)
             (gnu services ssh)
             (gnu system)
             (gnu system file-systems)
             (gnu system uuid)
             (gcrypt pk-crypto)
             (guix diagnostics)
             (guix gexp)
             (guix monads)
             (guix store)
             (guix utils)
             (ice-9 match)
             (json)
             (srfi srfi-1)
             (srfi srfi-34)
             (srfi srfi-64)
             (tests configuration)
             (tests systems))

(define %root-uuid "38af4c98-1cdd-13b5-82b2-60fb38af4c98")

(define (with-services . services)
  (operating-system
    (inherit %os)
    (services (append services %base-services))))

(define (with-trust . keys)
  "Return an operating-system that trusts KEYS and the servers of Guix's."
  (operating-system
    (inherit %os)
    (services
     (modify-services %base-services
       (guix-service-type
        config =>
        (guix-configuration
          (inherit config)
          (authorized-keys (append keys %default-authorized-guix-keys))))))))

(define (key q)
  (format #f "(public-key\n (ecc\n  (curve Ed25519)\n  (q #~a#)))\n" q))

(define %ours (key "AA58C98ADC"))
(define %other (key "BB58C98ADC"))

(test-begin "in-place")

(test-equal "the root is found by the UUID that is on the disk, all else stays"
  `(,(uuid %root-uuid 'dce) ,@(map file-system-device %base-file-systems))
  (map file-system-device
       (operating-system-file-systems (pin-root %os %root-uuid))))

(for-each (match-lambda
            ((os port)
             (test-equal (format #f "port ~a" port)
               port
               (ssh-port os))))
          `((,%os 22)
            (,(with-services (service openssh-service-type)) 22)
            (,(with-services (service openssh-service-type
                                      (openssh-configuration (port-number 2222))))
             2222)))

(for-each (match-lambda
            ((os trusts title)
             (test-equal title
               trusts
               (and (trusts? os %ours) #t))))
          `((,(with-trust (plain-file "key" %ours)) #t "our key")
            (,(with-trust (plain-file "other" %other) (plain-file "key" %ours)) #t
             "our key among others")
            (,(with-trust (plain-file "key" (string-join (string-tokenize %ours)))) #t
             "our key, written otherwise")
            (,(with-trust (plain-file "other" %other)) #f "another key")
            (,(with-trust) #f "the keys of Guix's servers alone")
            (,(with-trust (computed-file "key" #~(symlink "/" #$output))) #t
             "a key that is not known before it is built")
            (,(with-services (simple-service 'key guix-service-type
                                             (guix-extension
                                               (authorized-keys
                                                (list (plain-file "key" %ours))))))
             #t "our key, from an extension")
            (,(operating-system
                (inherit %os)
                (services (modify-services %base-services
                            (guix-service-type
                             config =>
                             (guix-configuration
                               (inherit config)
                               (authorize-key? #f))))))
             #t "whose keys are kept as they are")
            (,(operating-system
                (inherit %os)
                (services (modify-services %base-services
                            (delete guix-service-type))))
             #t "without Guix")))

(define (message-of config)
  "Return the message about a change to the machine m, which CONFIG declares otherwise than
it was planned."
  (ref (json-string->scm
        (scm->json-string
         (prepare-activation config "m"
                             #:system "/gnu/store/\
00000000000000000000000000000000-system.drv"
                             #:root-uuid %root-uuid
                             #:address "127.0.0.1")))
       "error" "message"))

(define %declaration
  "(virtual-machine (name \"m\") (operating-system %os))")

(test-equal "another declaration than was planned"
  "the configuration changed while it was deployed"
  (call-with-configuration %declaration message-of))

(test-equal "another one, on the command line"
  "the configuration changed while it was deployed"
  (message-of `(("expression"
                 . ,(string-append "(use-modules (tests systems))" %declaration)))))

(test-group "what the guest is looked at for"
  (define shared
    (file-system (device "tag") (mount-point "/shared") (type "9p")))

  (define (devices . more)
    "Return how many devices a guest with MORE file systems is asked for."
    (length
     ((@@ (gnu machine ssh) machine-check-file-system-availability)
      (host-machine (operating-system
                      (inherit %os)
                      (file-systems (append more (operating-system-file-systems %os))))
                    "192.0.2.1" 22 #f))))

  (test-equal "a directory that is shared by 9p is no device"
    (devices)
    (devices shared))

  (test-equal "another file system is"
    (+ 1 (devices))
    (devices (file-system (inherit shared) (type "ext4")))))

(test-equal "a boot loader that is put into a file system"
  '("/boot/efi")
  (boot-directories %efi-os))

(test-equal "a boot loader that is put onto a disk"
  '()
  (boot-directories %os))

(test-equal "where an operating-system was declared stays known"
  (list "/their/config.scm" 7)
  (let ((os (operating-system
              (inherit %os)
              (location (location "/their/config.scm" 7 0)))))
    (match (operating-system-location (pin-root os %root-uuid))
      (location (list (location-file location) (location-line location))))))

(test-group "what a guest is to boot by kexec"
  (define (says kernel arguments)
    "Return what a shell says of a system that is booted by KERNEL with ARGUMENTS."
    (format #f "~a~%/initrd~%~s" kernel
            `(boot-parameters (version 0) (kernel-arguments ,arguments))))

  (define* (deployed #:key (loads? #t) (unloads? #t) (before? #f)
                     (booted (says "/old" '("quiet")))
                     (current (says "/new" '("quiet"))))
    "Return what 'deploy-anew' does for a guest whose shell says of its systems what BOOTED and
CURRENT are.  Its kernel LOADS? and UNLOADS? what it is given, or fails to, and was given
something BEFORE?."
    (define given before?)

    (define (ask command)
      (cond ((string-contains command "kexec_loaded") (and given "1\n"))
            ((string-contains command "booted") booted)
            (else current)))

    (define host
      (machine
       (operating-system %os)
       (environment
        (environment-type
         (name 'played)
         (roll-back-machine (const #f))
         (deploy-machine
          (lambda (machine)
            (when loads?
              (set! given #t))
            (with-monad %store-monad (return #t))))
         (machine-remote-eval
          (lambda (machine exp)
            (with-monad %store-monad
              (when unloads?
                (set! given #f))
              (return (not unloads?)))))))
       (configuration #f)))

    (call-with-values
        (lambda ()
          ((deploy-anew host #:with-shell (lambda (proc) (proc ask))) #f))
      (lambda (found store) found)))

  (test-equal "is what its kernel has just taken"
    '((#t #t) (#t #t))
    (list (deployed) (deployed #:before? #t)))

  (test-equal "is nothing where its kernel took nothing, but for what it had before"
    '((#t #f) (#t #f))
    (list (deployed #:loads? #f) (deployed #:loads? #f #:before? #t)))

  (test-equal "is nothing that cannot be told from what it had before"
    '(#t #f)
    (deployed #:unloads? #f #:before? #t))

  (test-equal "is wanted where kernel or arguments differ"
    '(#f #t #t)
    (map (lambda (booted)
           (first (deployed #:booted booted)))
         (list (says "/new" '("quiet")) (says "/old" '("quiet")) (says "/new" '()))))

  (for-each (match-lambda
              ((name . told)
               (test-assert name
                 (guard (c ((formatted-message? c) #t))
                   (deployed #:current told)
                   #f))))
            '(("a guest whose system cannot be looked at" . #f)
              ("one that says nothing" . "")
              ("one that says less" . "/new\n/initrd\n")
              ("one that says something else" . "/new\n/initrd\n(other)"))))

(test-end "in-place")
