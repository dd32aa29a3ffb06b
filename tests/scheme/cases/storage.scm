;;; SPDX-License-Identifier: GPL-3.0-or-later

;; Disks, directories of the host, and what outlives a root.

(use-modules (tests configuration)
             (pyguixvm machine)
             (pyguixvm system guest)
             (pyguixvm storage)
             (gnu services)
             (gnu services base)
             (gnu services networking)
             (gnu services ssh)
             (gnu system)
             (gnu system file-systems)
             (guix gexp)
             (ice-9 match)
             (srfi srfi-1)
             (srfi srfi-26)
             (srfi srfi-64)
             (tests systems))

(define MiB (expt 1024 2))

(define %domain "(virtual-machine (operating-system %os) (libvirt-domain ")

(define (domain clauses)
  (ref (evaluate-machine
        (string-append "(operating-system %os) (persist '()) (libvirt-domain "
                       clauses ")"))
       "domain"))

(test-begin "storage")

(test-group "disks"
  (define disks
    (ref (domain "(disks (list (data-disk (name \"db\") (size 20G) (target \"/srv//db/\"))
 (data-disk (name \"x\") (size 128M) (file-system \"btrfs\"))
 (block-device \"/dev/disk/by-id/ata-1\")))")
         "disks"))

  (for-each (match-lambda
              ((keys ... value)
               (test-equal (object->string keys)
                 value (apply ref disks keys))))
            `((0 "kind" "data-disk")
              (0 "name" "db")
              (0 "size" ,(* 20 1024 MiB))
              (0 "file-system" "ext4")
              (0 "target" "/srv/db")
              (1 "size" ,(* 128 MiB))
              (1 "file-system" "btrfs")
              (1 "target" null)
              (2 "kind" "block-device")
              (2 "device" "/dev/disk/by-id/ata-1")))

  (test-equal "one alone" "db"
    (ref (domain "(disks (data-disk (name \"db\") (size 1G)))") "disks" 0 "name"))
  (test-equal "none" #() (ref (domain "") "disks")))

(test-group "directories of the host"
  (define (mount-of clauses)
    (ref (domain clauses) "mount-points" 0))

  (for-each (match-lambda
              ((clauses key value)
               (test-equal (string-append clauses " " key)
                 value
                 (ref (mount-of (format #f "(mount-points (mount-point ~a))" clauses))
                      key))))
            '(("(source \"/a\") (target \"/data/x\")" "tag" "data-x")
              ("(source \"/a\") (target \"/data/x\")" "driver" "virtiofs")
              ("(source \"/a\") (target \"/data/x\")" "read-only" #f)
              ("(source \"/a\") (target \"/data\") (read-only? #t)" "driver" "9p")
              ("(source \"/a\") (target \"/data\") (read-only? #t)" "read-only" #t)
              ("(source \"/a\") (driver \"9p\")" "driver" "9p")
              ("(source \"/srv/array\")" "tag" "srv-array")
              ("(source \"/a\") (tag \"btrfsarray\")" "tag" "btrfsarray")))

  (for-each (match-lambda
              ((machine sharing driver)
               (test-equal (object->string (list machine sharing))
                 driver
                 (parameterize ((%sharing sharing))
                   (ref (evaluate-machine
                         (string-append "(operating-system %os) (libvirt-domain \
(mount-points (mount-point (source \"/a\"))))" machine))
                        "domain" "mount-points" 0 "driver")))))
            '(("" "virtiofs" "virtiofs")
              ("" "9p" "9p")
              ("(hypervisor \"qemu+ssh://host/system\")" "9p" "virtiofs")
              ("(hypervisor \"qemu:///session\")" "virtiofs" "9p")))

  (test-equal "a list of names"
    '("a" "b")
    (map (lambda (mount) (ref mount "tag"))
         (vector->list
          (ref (evaluate-text "(define a (mount-point (source \"/a\")))
(define b (mount-point (source \"/b\")))
(virtual-machine (operating-system %os) (libvirt-domain (mount-points (a b))))")
               "deployment" "machines" 0 "domain" "mount-points"))))

  (test-equal "a call"
    "a"
    (ref (evaluate-text "(define (shares) (list (mount-point (source \"/a\"))))
(virtual-machine (operating-system %os) (libvirt-domain (mount-points (shares))))")
         "deployment" "machines" 0 "domain" "mount-points" 0 "tag")))

(test-group "the operating system"
  (define os
    (operating-system
      (inherit %os)
      (services (cons (service openssh-service-type)
                      (remove (lambda (service)
                                (eq? openssh-service-type (service-kind service)))
                              (operating-system-user-services %os))))))

  (define (added machine)
    (let ((before (operating-system-file-systems (machine-operating-system machine))))
      (filter-map (lambda (fs)
                    (and (not (memq fs before))
                         (list (file-system-mount-point fs)
                               (file-system-type fs)
                               (file-system-needed-for-boot? fs))))
                  (operating-system-file-systems
                   (effective-operating-system machine)))))

  (test-equal "without any of this, it is as declared"
    %os
    (effective-operating-system
     (virtual-machine (operating-system %os) (persist '()))))

  (test-equal "ssh host keys persist, if there are any"
    '(("/var/lib/pyguixvm" "ext4" #t))
    (added (virtual-machine (operating-system os))))

  (test-equal "in the directory of the service"
    '("/etc/ssh")
    (machine-persist (virtual-machine (operating-system os))))

  (let* ((client (operating-system
                   (inherit %os)
                   (services (list (service dhcpcd-service-type)))))
         (server (operating-system
                   (inherit client)
                   (services (cons (service openssh-service-type)
                                   (operating-system-user-services client))))))
    (test-equal "and where there is a disk for them, what keeps its address"
      '("/etc/ssh" "/var/db/dhcpcd")
      (machine-persist (virtual-machine (operating-system server))))

    (test-equal "which alone takes none"
      '()
      (machine-persist (virtual-machine (operating-system client))))

    (test-equal "those that are declared are all"
      '("/srv")
      (machine-persist
       (virtual-machine (operating-system server) (persist '("/srv"))))))

  (test-equal "they are mounted before sshd's activation makes keys and says whom to let in"
    '("MS_BIND" "authorized_keys")
    (filter-map (lambda (activation)
                  (let ((text (object->string (gexp->approximate-sexp activation))))
                    (find (cut string-contains text <>)
                          '("MS_BIND" "authorized_keys"))))
                (service-value
                 (fold-services (operating-system-services
                                 (effective-operating-system
                                  (virtual-machine (operating-system os))))
                                #:target-type activation-service-type))))

  (test-equal "disks and directories are mounted"
    '(("/db" "btrfs" #f) ("/data" "virtiofs" #f))
    (added (virtual-machine
            (operating-system os)
            (persist '())
            (libvirt-domain
             (disks (list (data-disk (name "db") (size "1G") (target "/db")
                                     (file-system "btrfs"))
                          (data-disk (name "raw") (size "1G"))))
             (mount-points (list (mount-point (source "/a") (target "/data"))
                                 (mount-point (source "/b")))))))))

(test-group "refusals"
  (test-refusals
   "validation"
   '(("(disks 5)" 7 "5 is not a disk" "(data-disk …) or (block-device FILE)")
     ("(disks (list (data-disk (name \"Db\") (size 1G))))" 30 "\"Db\" is not" "11")
     ("(disks (list (data-disk (name \"abcdefghijkl\") (size 1G))))" 30 "at most 11")
     ("(disks (list (data-disk (name \"state\") (size 1G))))" 30 "'state'")
     ("(disks (list (data-disk (name \"g7\") (size 1G))))" 30 "'g1'")
     ("(disks (list (data-disk (name \"a\") (size 127M))))" 41 "not at least 128M")
     ("(disks (list (data-disk (name \"a\") (size 1G) (file-system \"xfs\"))))" 58
      "\"xfs\" is not one of \"ext4\", \"btrfs\"")
     ("(disks (list (data-disk (name \"a\") (size 1G) (target \"/\"))))" 53
      "other than \"/\"")
     ("(disks (list (data-disk (name \"a\") (size 1G) (target \"/a/../b\"))))" 53
      "absolute name")
     ("(disks (list (data-disk (name \"a\") (size 1G) (mount \"/a\"))))" 45
      "unknown field 'mount'" "name, size, file-system, target")
     ("(disks (list (data-disk (name \"a\") (size 1G)) (data-disk (name \"a\") \
(size 1G))))" 63 "'a' is the name of two disks")
     ("(disks (list (block-device \"/dev/sda\")))" 13 "stays with its disk")
     ("(disks (list (block-device \"/dev/nvme0n1\")))" 13 "stays with its disk")
     ("(disks (list (block-device \"disk.img\")))" 13 "below /dev")
     ("(mount-points (list (mount-point (source \"srv\"))))" 41 "absolute name")
     ("(mount-points (list (mount-point (source \"/s\") (tag \"a b\"))))" 52 "a tag")
     ("(mount-points (list (mount-point (source \"/s\") (driver \"nfs\"))))" 55
      "\"nfs\" is not one of \"virtiofs\", \"9p\"")
     ("(mount-points (list (mount-point (source \"/s\") (read-only? #t) \
(driver \"virtiofs\"))))" 71 "cannot share a directory read-only")
     ("(mount-points (list (mount-point (source \"/s\")) (mount-point \
(source \"/s\"))))" 48 "'s' is the tag of two mount-points")
     ("(mount-points (list (mount-point (source \"/s\") (target \"/a\"))))
(disks (list (data-disk (name \"a\") (size 1G) (target \"/a\"))))" 55
      "two things are to be mounted at /a")
     ("(disks (list (data-disk (name \"a\") (size 1G) (target \"/tmp/x\")) \
(data-disk (name \"b\") (size 1G) (target \"/tmp/x\"))))" 104 "mounted at /tmp/x")
     ("(mount-points 5)" 14 "5 is not a 'mount-point' record or a list"))
   #:wrap (lambda (clauses) (string-append %domain clauses "))"))
   #:column (string-length %domain))

  (test-refusals
   "validation"
   '(("(virtual-machine (operating-system %os) (persist \"/etc\"))" 49
      "\"/etc\" is not a list")
     ("(virtual-machine (operating-system %os) (persist '(\"/\")))" 49 "other than")
     ("(virtual-machine (operating-system %os) (persist '(\"/run/x\")))" 49
      "none below /gnu, /proc")
     ("(virtual-machine (operating-system %os) (persist '(\"/a\" \"/a\")))" 49
      "two things are to be mounted at /a"))))

(test-end "storage")
