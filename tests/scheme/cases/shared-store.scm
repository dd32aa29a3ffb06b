;;; SPDX-License-Identifier: GPL-3.0-or-later

;; Machines that run from the store of their host.

(use-modules (tests configuration)
             (tests systems)
             (pyguixvm derivations)
             (pyguixvm guest)
             (pyguixvm records)
             (pyguixvm shared-store)
             (gnu system)
             (gnu system file-systems)
             (guix derivations)
             (guix gexp)
             (ice-9 match)
             (json)
             (srfi srfi-1)
             (srfi srfi-64))

(define* (machine-of clauses #:key (shared-store? #t) (want 'images))
  (ref (evaluate-text (string-append "(virtual-machine " clauses ")")
                      #:want want #:shared-store? shared-store?)
       "deployment" "machines" 0))

(define %machine "(operating-system %os)")

(define (mounted os)
  "Return mount point, type and device of each of the file systems of OS."
  (map (lambda (file-system)
         (list (file-system-mount-point file-system)
               (file-system-type file-system)
               (match (file-system-device file-system)
                 ((? file-system-label? label) (file-system-label->string label))
                 (device device))))
       (operating-system-file-systems os)))

(test-begin "shared store")

(test-group "the altered operating-system"
  (define further
    (list (file-system (mount-point "/boot/efi") (type "vfat")
                       (device (file-system-label "GNU-ESP")))
          (file-system (mount-point "/old") (type "ext4") (device "/dev/vda2"))
          (file-system (mount-point "/data") (type "ext4")
                       (device (file-system-label "data-db")))))

  (define altered
    (shared-store-operating-system
     (operating-system
       (inherit %os)
       (file-systems (append further (operating-system-file-systems %os))))))

  (test-equal "the root and the store come first"
    '(("/" "ext4" "pyguixvm-root")
      ("/gnu/store" "9p" "pyguixvm-store"))
    (take (mounted altered) 2))
  (test-equal "one root, one store, nothing else of an image's disk"
    '(1 1 0 0 1)
    (map (lambda (directory)
           (count (lambda (mount)
                    (string=? directory (first mount)))
                  (mounted altered)))
         '("/" "/gnu/store" "/boot/efi" "/old" "/data")))
  (test-assert "the store is mounted read-only, before the system is there"
    (let ((store (second (operating-system-file-systems altered))))
      (and (memq 'read-only (file-system-flags store))
           (file-system-needed-for-boot? store))))
  (test-equal "all else is as declared"
    (list (operating-system-host-name %os)
          (operating-system-user-kernel-arguments %os))
    (list (operating-system-host-name altered)
          (operating-system-user-kernel-arguments altered))))

(test-group "what is told of it"
  (define machine
    (machine-of (string-append %machine
                               "(libvirt-domain (kernel-arguments '(\"a=b\")))")))

  (define system (ref machine "image" "system" "output"))

  (test-equal "kind" "shared-store" (ref machine "image" "kind"))
  (test-equal "arguments"
    (vector "root=pyguixvm-root"
            (string-append "gnu.system=" system)
            (string-append "gnu.load=" system "/boot")
            "quiet" "a=b")
    (list->vector
     (remove (lambda (argument)
               (string-prefix? "modprobe.blacklist=" argument))
             (vector->list (ref machine "image" "boot" "arguments")))))
  (test-equal "initial RAM disk" (string-append system "/initrd")
    (ref machine "image" "boot" "initrd"))
  (test-assert "kernel"
    (string-suffix? "/bzImage" (ref machine "image" "boot" "kernel")))
  (test-equal "the store is shared"
    '("/gnu/store" "pyguixvm-store" "9p" #t)
    (map (lambda (key)
           (ref machine "domain" "mount-points" 0 key))
         '("source" "tag" "driver" "read-only")))
  (test-equal "nothing is computed for metadata alone"
    '(null null)
    (let ((image (ref (machine-of %machine #:want 'metadata) "image")))
      (list (ref image "system") (ref image "boot")))))

(test-assert "kernel arguments that are G-expressions are what a builder makes of them"
  (let* ((os        (operating-system
                      (inherit %os)
                      (kernel-arguments
                       (list #~(string-append "file=" #$(plain-file "x" "y"))))))
         (machine   (operating-system->machine os))
         (arguments (call-with-guix
                     (lambda (store)
                       (shared-system-arguments
                        (run-with-guix store (machine-shared-system machine)))))))
    (string-prefix? "file=/gnu/store/" (last arguments))))

(test-equal "without it, a machine has its operating-system as it is"
  (call-with-guix
   (lambda (store)
     (derivation-file-name
      (run-with-guix store (operating-system-derivation %os)))))
  (ref (machine-of %machine #:shared-store? #f) "image" "system"))

(test-equal "without it, no directory is shared"
  #()
  (ref (machine-of %machine #:shared-store? #f) "domain" "mount-points"))

(test-equal "what exists already stays an image"
  '("local-image" #())
  (let ((machine (ref (evaluate-text
                       (format #f "(begin (call-with-output-file ~s
 (lambda (port) (display (string-append (make-string 510 #\\nul) \"\\x55\\xaa\") port))
 #:encoding \"ISO-8859-1\")
 (virtual-machine (name \"x\") (persist '()) (image (local-image ~s))))"
                               "/tmp/pyguixvm-test-image" "/tmp/pyguixvm-test-image")
                       #:want 'images #:shared-store? #t)
                      "deployment" "machines" 0)))
    (delete-file "/tmp/pyguixvm-test-image")
    (list (ref machine "image" "kind")
          (ref machine "domain" "mount-points"))))

(test-end "shared store")
