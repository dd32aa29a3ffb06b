;;; SPDX-License-Identifier: GPL-3.0-or-later

;; What is refused, where, and in which words.  Each case is a text, which starts
;; at line 2 of its file, a place, and words of the message.

(use-modules (pyguixvm sanitizers)
             (tests configuration)
             (guix diagnostics)
             (srfi srfi-34)
             (srfi srfi-64))

(define %machine "(virtual-machine (operating-system %os) ")
(define %domain (string-append %machine "(libvirt-domain "))

(test-begin "refusals")

(test-group "machines"
  (test-refusals
   "validation"
   '(("(name \"../x\")" 6 "\"../x\"" "at most 64 letters")
     ("(name \"\")" 6 "\"\"")
     ("(name \".hidden\")" 6 ".hidden")
     ("(name \"-x\")" 6 "-x")
     ("(name \"a b\")" 6 "a b")
     ("(name 'web)" 6 "'web")
     ("(ready 5)" 7 "5 is not a sign of readiness")
     ("(ready (list 5))" 7 "5 is not a sign of readiness" "(tcp-port PORT)")
     ("(ready (list (tcp-port 0)))" 13 "0 is not a port number from 1 to 65535")
     ("(ready (list (tcp-port 65536)))" 13 "65536")
     ("(ready (list (tcp-port)))" 13 "expected (tcp-port port)")
     ("(ready (list (console \"\")))" 13 "\"\" is not a non-empty string")
     ("(ready (list (console 5)))" 13 "5 is not a non-empty string")
     ("(ready-timeout 0)" 15 "0 is not an integer of at least 1")
     ("(ready-timeout 604801)" 15 "604801 is not an integer of at most 604800")
     ("(hypervisor \"\")" 12 "\"\" is not a non-empty string")
     ("(hypervisor \"qemu:///system\\n\")" 12 "without spaces and line breaks")
     ("(image (local-image \"/x\"))" 7 "both 'operating-system' and 'image'")
     ("(image \"x.qcow2\")" 7 "\"x.qcow2\"" "(local-image FILE)")
     ("(operating-system %os)" 0 "'operating-system' is given twice")
     ("(libvirt-domain 5)" 16 "5 is not a libvirt-domain")
     ("(libvirt-domain %os)" 16 "<operating-system> is not a libvirt-domain")
     ("(nonsense 1)" 0 "unknown field 'nonsense'" "name, operating-system, image")
     ("(name)" 0 "field 'name' takes one value, and '(name)' has 0")
     ("(name \"a\" \"b\")" 0 "field 'name' takes one value" "has 2")
     ("(ignore-drift (list 5))" 14 "5 is not a non-empty string")
     ("(tags '(\"a b\"))" 6 "\"a b\" is not the name of a group of machines")
     ("(tags 'web)" 6 "'web is not the name of a group of machines")
     ("(requires '(\"../x\"))" 10 "\"../x\" is not the name of a machine")
     ("(requires \"db\")" 10 "there is no machine 'db'" "declares host")
     ("(requires \"host\")" 10 "wait for itself: host requires host")
     ("(protect? 'yes)" 10 "'yes is not #t or #f")
     ("(shared-store? \"yes\")" 15 "\"yes\" is not #t or #f"))
   #:wrap (lambda (clause) (string-append %machine clause ")"))
   #:column (string-length %machine))

  (test-refusals
   "validation"
   '(("(virtual-machine)" 0 "neither 'operating-system' nor 'image'")
     ("(virtual-machine (operating-system 42))" 35 "42 is not an operating-system")
     ("(virtual-machine (inherit %os))" 0 "<operating-system> cannot be inherited")
     ("(virtual-machine (operating-system %efi-os))" 0 "'bios cannot start")
     ("(virtual-machine (operating-system %btrfs-os))" (51 . 24) "ext4 root, not btrfs")
     ("(virtual-machine (image 5))" 24 "5 is not an image")
     ("(virtual-machine (operating-system %os) (image (make-image \"ext4\")))" 47
      "both 'operating-system' and 'image'")
     ("(virtual-machine (image (make-image \"ext4\")))" 0 "'bios cannot start")
     ("(virtual-machine (image (make-image \"btrfs\" #:os %os)))" 24
      "starts from btrfs with the firmware 'bios")
     ("(virtual-machine (image (make-image \"f2fs\")))" 24 "type 'f2fs'")
     ("(virtual-machine (image (make-image \"ext4\" #:os #f)))" 24
      "it has no operating-system")
     ("(virtual-machine (image (make-image \"ext4\" #:format 'compressed-qcow2)))"
      24 "its format is 'compressed-qcow2'")
     ("(virtual-machine (image (make-image \"ext4\" #:partitions (lambda (esp root) \
(list esp)))))" 24 "none of its partitions is the root")
     ("(virtual-machine (image (make-image \"ext4\" #:partitions (lambda (esp root) \
(list root esp)))))" 24 "not the last of its partitions")
     ("(virtual-machine (name \"x\") (image (remote-image)))" 35 "url")
     ("(virtual-machine (name \"x\") (image (remote-image (url \"/disk\") (sha256 \"\"))))"
      54 "the URL of a file")
     ("(virtual-machine (name \"x\") (image (remote-image (url \"https://h/d\") \
(sha256 \"12\"))))" 77 "64 digits"))))

(test-group "systems"
  (test-refusals
   "validation"
   '(("(file-systems %base-file-systems)" 0 "no root file system")
     ("(bootloader (bootloader-configuration (bootloader (@ (gnu bootloader extlinux) \
extlinux-bootloader)) (targets '(\"/dev/vda\"))))" 0 "'extlinux' does not start"))
   #:wrap (lambda (clause)
            (string-append "(use-modules (gnu)) (virtual-machine (operating-system \
(operating-system (inherit %os) " clause ")))"))
   #:column 55))

(test-group "directories"
  (test-refusals
   "validation"
   '(("(persist '(\"/var\"))" 9 "\"/var\"" "/var/lib/pyguixvm")
     ("(persist '(\"/var/lib\"))" 9 "\"/var/lib\"")
     ("(persist '(\"/var/lib/pyguixvm/x\"))" 9 "/var/lib/pyguixvm")
     ("(persist '(\"/srv\" \"/srv/a\"))" 9 "/srv/a is inside /srv"))
   #:wrap (lambda (clause) (string-append %machine clause ")"))
   #:column (string-length %machine))
  (for-each
   (lambda (directory)
     (test-refusals
      "validation"
      `((,directory 8 ,directory "may be hidden"))
      #:wrap (lambda (directory)
               (string-append %domain "(mount-points (mount-point (source \"/srv\") (target \""
                              directory "\")))))"))
      #:column (+ (string-length %domain) 43)))
   '("/gnu/store" "/var" "/etc" "/boot" "/run/secrets" "/proc/1" "/var/lib")))

(test-group "domains"
  (test-refusals
   "validation"
   '(("(title \"a\\rb\")" 7 "single line, without control")
     ("(title \"a\\x1b;b\")" 7 "single line, without control")
     ("(description \"a\\r\\nb\")" 13 "without control characters")
     ("(cpu 0)" 5 "0 is not an integer of at least 1")
     ("(cpu -1)" 5 "-1")
     ("(cpu 1.5)" 5 "1.5")
     ("(cpu \"2\")" 5 "\"2\"")
     ("(cpu\n 0)" (3 . 1) "0 is not")
     ("(cpu 4) (maximum-cpu 2)" 21 "2 is less than" "4")
     ("(maximum-cpu 99999999999999999999)" 13 "not an integer of at most 255")
     ("(memory 5P)" 8 "5P is not at most 4P")
     ("(memory 0)" 8 "0 is not a size greater than 0")
     ("(memory 0G)" 8 "0G is not a size greater than 0")
     ("(memory 512)" 8 "512 is not at least 64M")
     ("(memory 63M)" 8 "63M is not at least 64M")
     ("(memory 67108865)" 8 "67108865 is not a multiple of 1024 bytes")
     ("(memory 2GB)" 8 "2GB is not a size, such as 2G")
     ("(memory 2e5G)" 8 "2e5G is not a size")
     ("(memory -2G)" 8 "-2G is not a size")
     ("(memory 1e9)" 8 "1.0e9 is not a size")
     ("(memory \"much\")" 8 "\"much\" is not a size")
     ("(memory #f)" 8 "#f is not a size")
     ("(memory 4G) (maximum-memory 2G)" 28 "2G is less than" "4G")
     ("(storage 0)" 9 "0 is not a size greater than 0")
     ("(storage 1000)" 9 "1000 is not a multiple of 512 bytes")
     ("(kernel-arguments \"quiet\")" 18 "\"quiet\" is not a list")
     ("(kernel-arguments '(quiet))" 18 "'quiet is not a non-empty string")
     ("(autostart? 'yes)" 12 "'yes is not #t or #f")
     ("(kernel-arguments '(\"a\\nb\"))" 18 "is not one line")
     ("(kernel-arguments '(\"a;b\"))" 18 "an argument that GRUB passes on as it is")
     ("(kernel-arguments (list (make-string 1701 #\\a)))" 18
      "1707 bytes are more than Linux takes")
     ("(storage 199M)" 9 "no Guix System fits into 199M")
     ("(storage 2T)" 9 "2T is more than a partition table of type MBR")
     ("(storage 2251799813685760)" 9 "is not at most 2P")
     ("(disks (list (data-disk (name \"db\") (size 3P))))" 42 "3P is not at most 2P")
     ("(cpu 256)" 5 "256 is not an integer of at most 255")
     ("(networking (map (lambda (each) (networking)) (iota 201)))" 12
      "201 devices are more than a machine can have, 200")
     ("(description (string (integer->char #xfffe)))" 13 "text without control characters")
     ("(pool \"..\")" 6 "\"..\" is not a name")
     ("(pool (make-string 251 #\\a))" 6 "1 to 250 bytes")
     ("(pool \"\")" 6 "\"\" is not a name")
     ("(pool \"a/b\")" 6 "\"a/b\" is not a name")
     ("(pool 'default)" 6 "'default is not a name")
     ("(firmware 'efi)" 10 "'efi is not one of 'bios, 'uefi")
     ("(firmware \"uefi\")" 10 "\"uefi\" is not one of")
     ("(firmware 'uefi)" 10 "'uefi needs a bootloader for EFI")
     ("(virtualization 'xen)" 16 "'xen is not one of 'auto, 'kvm, 'qemu")
     ("(clock 'gmt)" 7 "'gmt is not one of 'utc, 'localtime")
     ("(title 5)" 7 "5 is not a non-empty string")
     ("(title \"a\\nb\")" 7 "is not a single line")
     ("(description 'x)" 13 "'x is not a non-empty string")
     ("(networking 5)" 12 "5 is not a 'networking' record or a list of them")
     ("(networking (list 5))" 12 "5 is not a 'networking' record")
     ("(cpus 2)" 0 "unknown field 'cpus'" "the fields are cpu, maximum-cpu")
     ("(cpus 2) (memory 1G)" 0 "unknown field 'cpus'"))
   #:wrap (lambda (clauses) (string-append %domain clauses "))"))
   #:column (string-length %domain)))

(test-group "interfaces"
  (let ((networking (string-append %domain "(networking ")))
    (test-refusals
     "validation"
     '(("(mac-address 52:54:00:12:34)" 13 "52:54:00:12:34 is not" "six hexadecimal")
       ("(mac-address 52:54:00:12:34:5g)" 13 "52:54:00:12:34:5g is not")
       ("(mac-address \"52:54\")" 13 "\"52:54\" is not")
       ("(mac-address 5)" 13 "5 is not a MAC address")
       ("(mac-address 53:54:00:12:34:56)" 13 "53:54:00:12:34:56" "multicast")
       ("(mac-address ff:ff:ff:ff:ff:ff)" 13 "multicast")
       ("(mac-address 00:00:00:00:00:00)" 13 "zeros")
       ("(network \"\")" 9 "\"\" is not a name")
       ("(network 'lan)" 9 "'lan is not a name")
       ("(macaddress 52:54:00:12:34:56)" 0 "unknown field 'macaddress'"
        "network, mac-address")
       ("(address \"10.0.0.1\")" 0 "'address' is not supported yet"))
     #:wrap (lambda (clause) (string-append networking clause ")))"))
     #:column (string-length networking))))

(test-group "several machines"
  (test-refusals
   "validation"
   '(("(define (vm n) (virtual-machine (name n) (operating-system %os)))
(list (vm \"a\") (vm \"b\") (vm \"a\"))" 38 "'a' is the name of two machines")
     ("(define (vm n . r) (virtual-machine (name n) (operating-system %os) (requires r)))
(list (vm \"a\" \"d\") (vm \"b\" \"c\") (vm \"c\" \"d\" \"b\") (vm \"d\"))" 78
      "wait for itself: b requires c requires b")
     ("(list (virtual-machine (operating-system %os))
      (virtual-machine (operating-system %os)))" (3 . 6) "'host'" "first at" ":2:6")
     ("(virtual-machine (operating-system %os) (libvirt-domain (networking (list
 (networking (mac-address 52:54:00:00:00:01))
 (networking (mac-address 52:54:00:00:00:01))))))" (4 . 26)
 "52:54:00:00:00:01" "two interfaces" ":3:26")
     ("(define (vm n address)
  (virtual-machine (name n) (operating-system %os)
    (libvirt-domain (networking (mac-address address)))))
(list (vm \"a\" \"52:54:00:00:00:01\") (vm \"b\" \"52:54:00:00:00:01\"))"
      (4 . 45) "52:54:00:00:00:01")))

  (test-assert "interfaces at two hypervisors may have one address"
    (ref (evaluate-text "(define (vm n)
  (virtual-machine (name n) (operating-system %os)
    (hypervisor (string-append \"qemu+ssh://\" n \"/system\"))
    (libvirt-domain (networking (mac-address 52:54:00:00:00:01)))))
(list (vm \"a\") (vm \"b\"))") "deployment"))

  (test-equal "a machine that is not declared"
    '("validation" #f
      "there is no machine 'x'; the configuration declares a, b")
    (error-of (evaluate-text
               "(define (vm n) (virtual-machine (name n) (operating-system %os)))
(list (vm \"a\") (vm \"b\"))" #:names '("a" "x"))))

  (test-equal "a tag that no machine has"
    '("validation" #f
      "there is no machine with the tag 'x'; the configuration declares db, web")
    (error-of (evaluate-text "(define (vm n . tags)
  (virtual-machine (name n) (operating-system %os) (tags tags)))
(list (vm \"a\" \"db\") (vm \"b\" \"web\" \"db\"))" #:tags '("x")))))

(test-group "the last expression"
  (test-refusals
   "validation"
   '(("'()" 0 "empty list")
     ("42" 0 "gives 42")
     ("(define x 1)" 0 "gives nothing")
     ("(list 1 2)" 0 "1 is no virtual-machine")
     ("((@ (gnu system image) image-with-os) (@ (gnu system image) mbr-disk-image) 3)" 0
      "image: its operating-system is 3")
     ("(@ (gnu system image) mbr-disk-image)" 0 "it has no operating-system")
     ("(deployment)" 0 "the list is empty")
     ("(deployment (machines '()))" 22 "the list is empty")
     ("(deployment (name 'infra) (machines '()))" 18
      "name: 'infra is not the name of a deployment")
     ("(deployment (name \"\") (machines '()))" 18 "at most 64 letters")
     ("(deployment (name \"-a\") (machines '()))" 18 "\"-a\" is not the name")
     ("(deployment (name \"a/b\") (machines '()))" 18 "the name of a deployment")
     ("(deployment (name #f) (machines '()))" 18 "#f is not the name")
     ("(deployment (machines (list 1)))" 22 "1 is not a virtual-machine")
     ("(deployment (machine '()))" 12 "unknown field 'machine'"))))

(define (hint-of check value)
  "Return the hint that CHECK gives for VALUE, of a field, or #f."
  (guard (c ((fix-hint? c) (condition-fix-hint c))
            (#t #f))
    (check value 'size #f)
    #f))

(test-equal "what is said to be meant is taken"
  '("4G" "63G" "64M" "512M" "100000M" "2000000K" "67108863K" #f)
  (map (lambda (value)
         (and=> (hint-of check-memory value)
                (lambda (hint)
                  (let ((size (string-drop (string-drop-right hint 1)
                                           (string-length
                                            "A number counts bytes; did you mean "))))
                    (check-memory size 'memory #f)
                    size))))
       '(4 63 64 512 100000 2000000 67108863 63M)))

(test-equal "and enough for a disk"
  "A number counts bytes; did you mean 100G?"
  (hint-of check-size 100))

(test-end "refusals")
