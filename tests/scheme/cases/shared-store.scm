;;; SPDX-License-Identifier: GPL-3.0-or-later

;; Machines that run from the store of their host.

(use-modules (tests configuration)
             (tests systems)
             (pyguixvm system vm)
             (gnu services)
             (gnu services base)
             (gnu system)
             (gnu system file-systems)
             (gnu system image)
             (gnu system mapped-devices)
             (ice-9 match)
             (srfi srfi-1)
             (srfi srfi-64))

(define %machine
  "(virtual-machine (operating-system %os) (persist '()) \
(libvirt-domain (kernel-arguments '(\"console=ttyS0\")) \
(mount-points (mount-point (source \"/a\") (target \"/data\"))) \
(disks (data-disk (name \"db\") (size 1G) (target \"/db\")))))")

(define (machine-of . options)
  (ref (apply evaluate-text %machine options) "deployment" "machines" 0))

(define (device file-system)
  (match (file-system-device file-system)
    ((? file-system-label? label) (file-system-label->string label))
    (device device)))

(define (mounts os)
  "Return device, type and options of the file systems of OS, by mount point."
  (map (lambda (fs)
         (list (file-system-mount-point fs) (device fs) (file-system-type fs)
               (file-system-flags fs) (file-system-needed-for-boot? fs)))
       (operating-system-file-systems os)))

(test-begin "shared-store")

(test-group "the operating system"
  (define os
    (operating-system
      (inherit %efi-os)
      (file-systems (cons* (file-system
                             (mount-point "/boot/efi")
                             (device (file-system-label "GNU-ESP"))
                             (type "vfat"))
                           (file-system
                             (mount-point "/home")
                             (device (file-system-label "data-home"))
                             (type "ext4"))
                           (operating-system-file-systems %efi-os)))))
  (define shared (shared-store-operating-system os))

  (test-equal "root and store are others, nothing of the image's disk stays"
    '(("/" "pyguixvm-root" "ext4" () #t)
      ("/gnu/store" "pyguixvm-store" "9p" (read-only) #t)
      ("/home" "data-home" "ext4" () #f))
    (filter (lambda (mount)
              (member (first mount) '("/" "/gnu/store" "/boot/efi" "/home")))
            (mounts shared)))

  (test-equal "it was declared where it was"
    (operating-system-location os)
    (operating-system-location shared))

  ;; Among the base file systems is one that keeps the guest from writing its store.
  (test-equal "the store is mounted once"
    1
    (count (lambda (mount) (string=? "/gnu/store" (first mount)))
           (mounts shared)))

  (define (modules . fields)
    (operating-system-initrd-modules
     (shared-store-operating-system
      (operating-system
        (inherit os)
        (initrd-modules (cons "added" (operating-system-initrd-modules os)))
        (mapped-devices (if (memq 'encrypted fields)
                            (list (mapped-device (source "/dev/vdb") (target "x")
                                                 (type luks-device-mapping)))
                            '()))))))

  (test-equal "drivers of absent hardware are not loaded, all others are"
    '(("added" "virtio_blk")
      ("added" "virtio_blk" "dm-crypt"))
    (map (lambda (modules)
           (filter (lambda (name) (member name modules))
                   '("added" "virtio_blk" "ahci" "isci" "dm-crypt")))
         (list (modules) (modules 'encrypted))))

  (test-equal "all else is as declared"
    (map (lambda (get) (get os))
         (list (compose (lambda (services) (map service-kind services))
                        operating-system-user-services)
               operating-system-packages
               operating-system-users
               operating-system-bootloader
               operating-system-user-kernel-arguments))
    (map (lambda (get) (get shared))
         (list (compose (lambda (services) (map service-kind services))
                        operating-system-user-services)
               operating-system-packages
               operating-system-users
               operating-system-bootloader
               operating-system-user-kernel-arguments)))

  (define (keys os)
    (filter-map (lambda (service)
                  (and (eq? guix-service-type (service-kind service))
                       (guix-configuration-generate-substitute-key?
                        (service-value service))))
                (operating-system-user-services (shared-store-operating-system os))))

  (test-equal "it makes no key unless it publishes what it has"
    '(() (#t))
    (map keys
         (list os
               (operating-system
                 (inherit os)
                 (services (cons (service guix-publish-service-type)
                                 (operating-system-user-services os))))))))

(test-group "what is evaluated"
  (define before (machine-of #:want 'systems))
  (define shared (machine-of #:want 'images #:shared-store? #t))
  (define after (machine-of #:want 'systems))

  (define system
    (ref shared "image" "system" "output"))
  (define arguments
    (vector->list (ref shared "image" "boot" "arguments")))

  (test-equal "no image" "shared-store" (ref shared "image" "kind"))

  (test-equal "the root has a label" %root-label (ref shared "image" "root-label"))

  (test-assert "what is started is in the store"
    (and (string-prefix? "/gnu/store/" (ref shared "image" "boot" "kernel"))
         (string=? (string-append system "/initrd")
                   (ref shared "image" "boot" "initrd"))))

  (test-equal "Guix's arguments, those of the operating system, and the domain's"
    `("root=pyguixvm-root"
      ,(string-append "gnu.system=" system)
      ,(string-append "gnu.load=" system "/boot")
      "quiet"
      "console=ttyS0")
    (filter (lambda (argument)
              (any (lambda (prefix) (string-prefix? prefix argument))
                   '("root=" "gnu." "quiet" "console=")))
            arguments))

  (test-equal "the hypervisor shares the store, too, and nothing else is lost"
    '(("data" "virtiofs" #f) ("pyguixvm-store" "9p" #t))
    (map (lambda (mount)
           (map (lambda (key) (ref mount key)) '("tag" "driver" "read-only")))
         (vector->list (ref shared "domain" "mount-points"))))

  (test-equal "disks are as declared"
    (ref before "domain" "disks")
    (ref shared "domain" "disks"))

  (test-equal "asked for otherwise, the same machine is as it was"
    (list (ref before "image") (ref before "domain"))
    (list (ref after "image") (ref after "domain")))

  (test-assert "it is another system than the image's"
    (not (equal? (ref before "image" "system")
                 (ref shared "image" "system" "derivation")))))

(test-group "as declared"
  (define (machine-that-says clause)
    (ref (evaluate-text (string-append "(virtual-machine (operating-system %os) "
                                       clause ")")
                        #:want 'images)
         "deployment" "machines" 0))

  (test-equal "it is the machine that says so, or nobody"
    '("shared-store" "system" "system")
    (map (lambda (clause)
           (ref (machine-that-says clause) "image" "kind"))
         '("(shared-store? #t)" "(shared-store? #f)" "")))

  (test-equal "declared or asked for, it is the same"
    (ref (evaluate-text "(virtual-machine (operating-system %os))"
                        #:want 'images #:shared-store? #t)
         "deployment" "machines" 0 "image")
    (ref (machine-that-says "(shared-store? #t)") "image")))

(test-equal "without derivations, none is computed"
  '("shared-store" null null)
  (let ((image (ref (machine-of #:shared-store? #t) "image")))
    (map (lambda (key) (ref image key)) '("kind" "system" "boot"))))

(test-end "shared-store")
