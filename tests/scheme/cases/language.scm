;;; SPDX-License-Identifier: GPL-3.0-or-later

;; What can be written, and what it means.

(use-modules (tests configuration)
             (pyguixvm)
             (pyguixvm records)
             (ice-9 match)
             (srfi srfi-64))

(define GiB (expt 1024 3))

(define (domain clauses)
  (ref (evaluate-machine
        (string-append "(operating-system %os) (libvirt-domain " clauses ")"))
       "domain"))

(test-begin "language")

(test-group "the defaults"
  (define machine (evaluate-machine "(operating-system %os)"))

  (for-each (match-lambda
              ((keys ... value)
               (test-equal (object->string keys)
                 value (apply ref machine keys))))
            `(("name" "host")
              ("ready-timeout" 120)
              ("protect" #f)
              ("ignore-drift" #())
              ("requires" #())
              ("tags" #())
              ("hypervisor" null)
              ("ready" 0 "kind" "address")
              ("domain" "cpu" 1)
              ("domain" "maximum-cpu" 1)
              ("domain" "memory" ,GiB)
              ("domain" "maximum-memory" ,GiB)
              ("domain" "storage" ,(* 10 GiB))
              ("domain" "networking" 0 "network" "default")
              ("domain" "kernel-arguments" #())
              ("domain" "autostart" #t)
              ("domain" "pool" "default")
              ("domain" "firmware" "bios")
              ("domain" "virtualization" "auto")
              ("domain" "clock" "utc")
             ("domain" "title" null)
              ("domain" "description" null)
              ("image" "kind" "system")
              ("image" "host-name" "host")
              ("image" "image-type" "mbr-hybrid-raw")
              ("image" "root-file-system" "ext4")
              ("image" "derivation" null)
              ("image" "output" null)
              ("image" "system" null))))

(test-group "the owner's notation"
  (define machine
    (evaluate-machine "(operating-system %os) \
(libvirt-domain (cpu 2) (memory 2G) (storage 10G) \
(networking (mac-address 52:54:00:ab:cd:ef)))"))

  (test-equal "cpu" 2 (ref machine "domain" "cpu"))
  (test-equal "memory" (* 2 GiB) (ref machine "domain" "memory"))
  (test-equal "storage" (* 10 GiB) (ref machine "domain" "storage"))
  (test-equal "network" "default"
    (ref machine "domain" "networking" 0 "network"))
  (test-equal "address" "52:54:00:ab:cd:ef"
    (ref machine "domain" "networking" 0 "mac-address")))

(test-group "sizes"
  (for-each (match-lambda
              ((text bytes)
               (test-equal text
                 bytes (ref (domain (format #f "(memory ~a)" text)) "memory"))))
            `(("2G" ,(* 2 GiB))
              ("\"2G\"" ,(* 2 GiB))
              ("\"1.5GiB\"" ,(* 3/2 GiB))
              ("1.5G" ,(* 3/2 GiB))
              ("512M" ,(/ GiB 2))
              ("1073741824" ,GiB)
              ("(* 2 (expt 1024 3))" ,(* 2 GiB))
              ("(if #t \"3G\" 0)" ,(* 3 GiB)))))

(test-group "addresses"
  (for-each (match-lambda
              ((text address)
               (test-equal text
                 address
                 (ref (domain (format #f "(networking (mac-address ~a))" text))
                      "networking" 0 "mac-address"))))
            '(("52:54:00:12:34:56" "52:54:00:12:34:56")
              ("10:20:30:40:50:60" "10:20:30:40:50:60")
              ("aa:bb:cc:dd:ee:f0" "aa:bb:cc:dd:ee:f0")
              ("52:54:00:AB:CD:EF" "52:54:00:ab:cd:ef")
              ("\"52:54:00:ab:cd:ef\"" "52:54:00:ab:cd:ef")
              ("(string-append \"52:54:00\" \":ab:cd:ef\")"
               "52:54:00:ab:cd:ef"))))

(test-group "a bound variable wins over a bare word"
  (define (memory text)
    (ref (evaluate-text text) "deployment" "machines" 0 "domain" "memory"))

  (test-equal "defined at the top"
    (* 3 GiB)
    (memory "(define 2G \"3G\")
(virtual-machine (operating-system %os) (libvirt-domain (memory 2G)))"))
  (test-equal "defined below"
    (* 3 GiB)
    (memory "(define (vm)
  (virtual-machine (operating-system %os) (libvirt-domain (memory 2G))))
(define 2G \"3G\")
(vm)"))
  (test-equal "local"
    (* 4 GiB)
    (memory "(let ((2G \"4G\"))
  (virtual-machine (operating-system %os) (libvirt-domain (memory 2G))))"))
  (test-equal "ordinary"
    (* 5 GiB)
    (memory "(define size \"5G\")
(virtual-machine (operating-system %os) (libvirt-domain (memory size)))")))

(test-group "networking"
  (define (networks clauses)
    (map (lambda (interface)
           (ref interface "network"))
         (vector->list (ref (domain clauses) "networking"))))

  (test-equal "clauses" '("lan") (networks "(networking (network \"lan\"))"))
  (test-equal "no clauses" '("default") (networks "(networking)"))
  (test-equal "a record" '("lan")
    (networks "(networking (networking (network \"lan\")))"))
  (test-equal "a list" '("lan" "default")
    (networks "(networking (list (networking (network \"lan\")) (networking)))"))
  (test-equal "an empty list" '() (networks "(networking '())"))
  (test-assert "each interface has an address of its own"
    (match (ref (domain "(networking (list (networking) (networking)))")
                "networking")
      (#(one other)
       (not (equal? (ref one "mac-address") (ref other "mac-address")))))))

(test-group "forms of a domain"
  (define (cpu text)
    (ref (evaluate-text text) "deployment" "machines" 0 "domain" "cpu"))

  (test-equal "a record" 2
    (cpu "(virtual-machine (operating-system %os)
  (libvirt-domain (libvirt-domain (cpu 2))))"))
  (test-equal "a variable" 2
    (cpu "(define domain (libvirt-domain (cpu 2)))
(virtual-machine (operating-system %os) (libvirt-domain domain))"))
  (test-equal "a procedure" 2
    (cpu "(define (domain n) (libvirt-domain (cpu n)))
(virtual-machine (operating-system %os) (libvirt-domain (domain 2)))"))
  (test-equal "a local procedure" 2
    (cpu "(let ((domain (lambda (n) (libvirt-domain (cpu n)))))
  (virtual-machine (operating-system %os) (libvirt-domain (domain 2))))"))
  (test-equal "no clauses" 1
    (cpu "(virtual-machine (operating-system %os) (libvirt-domain))")))

(test-group "the sugar of Guix's records"
  (define (machine text)
    (ref (evaluate-text text) "deployment" "machines" 0))

  (define inherited
    (machine "(define base
  (virtual-machine (operating-system %os)
    (libvirt-domain (cpu 2) (memory 2G) (title \"base\"))))
(virtual-machine
  (name \"derived\")
  (inherit base)
  (libvirt-domain (inherit (virtual-machine-libvirt-domain base)) (cpu 4)))"))

  (test-equal "inherit: given anew" 4 (ref inherited "domain" "cpu"))
  (test-equal "inherit: kept" "base" (ref inherited "domain" "title"))
  (test-equal "a maximum follows what it is the maximum of"
    4 (ref inherited "domain" "maximum-cpu"))
  (test-equal "the location is not inherited"
    5 (ref inherited "location" "line"))
  (test-equal "a field may refer to one before"
    8 (ref (machine "(virtual-machine (operating-system %os)
  (libvirt-domain (cpu 4) (maximum-cpu (* 2 cpu))))")
           "domain" "maximum-cpu")))

(test-group "variables with the name of a field"
  (define (maximum text)
    (ref (vector-ref (ref (evaluate-text text) "deployment" "machines") 0)
         "domain" "maximum-cpu"))

  (test-equal "a parameter, as fleets have it" '("web" "web")
    (let ((machine (vector-ref
                    (ref (evaluate-text "
(define (os name) (operating-system (inherit %os) (host-name name)))
(define (machine name) (virtual-machine (name name) (operating-system (os name))))
(list (machine \"web\"))")
                         "deployment" "machines")
                    0)))
      (list (ref machine "name") (ref machine "image" "host-name"))))
  (test-equal "a parameter, in whichever order" '("web" 4 8 "8" "9")
    (let ((machine (vector-ref
                    (ref (evaluate-text "
(define (os name) (operating-system (inherit %os) (host-name name)))
(define (machine name cpu maximum-memory tag)
  (virtual-machine
    (libvirt-domain
      (maximum-memory maximum-memory)
      (kernel-arguments (list (number->string (* 2 cpu)) tag))
      (maximum-cpu (* 2 cpu))
      (mount-points (list (mount-point (tag tag) (source (string-append \"/\" tag)))))
      (cpu cpu))
    (operating-system (os name))
    (name name)))
(list (machine \"web\" 4 \"2G\" \"9\"))")
                         "deployment" "machines")
                    0)))
      (list (ref machine "name")
            (ref machine "domain" "cpu")
            (ref machine "domain" "maximum-cpu")
            (ref machine "domain" "kernel-arguments" 0)
            (ref machine "domain" "mount-points" 0 "tag"))))
  (test-equal "a value is computed once" '#("name" "maximum-cpu" "maximum-memory" "tag")
    (ref (vector-ref (ref (evaluate-text "
(define computed '())
(define (once what value)
  (set! computed (append computed (list what)))
  value)
(define machine
  (virtual-machine
    (name (once \"name\" \"web\"))
    (operating-system %os)
    (libvirt-domain
      (maximum-cpu (once \"maximum-cpu\" 2))
      (maximum-memory (once \"maximum-memory\" \"2G\"))
      (mount-points (list (mount-point (source \"/srv\") (tag (once \"tag\" \"srv\"))))))))
(virtual-machine-name machine)
(virtual-machine-name machine)
(virtual-machine (inherit machine)
                 (libvirt-domain (inherit (virtual-machine-libvirt-domain machine))
                                 (kernel-arguments computed)))")
                          "deployment" "machines")
                     0)
         "domain" "kernel-arguments"))
  (test-equal "a parameter" 8
    (maximum "
(define (machine cpu)
  (virtual-machine (operating-system %os)
                   (libvirt-domain (cpu 4) (maximum-cpu cpu))))
(machine 8)"))
  (test-equal "a local variable" 8
    (maximum "
(let ((cpu 8))
  (virtual-machine (operating-system %os)
                   (libvirt-domain (cpu 4) (maximum-cpu cpu))))"))
  (test-equal "a global variable" 8
    (maximum "
(define cpu 8)
(virtual-machine (operating-system %os) (libvirt-domain (cpu 4) (maximum-cpu cpu)))"))
  (test-equal "a procedure" 8
    (maximum "
(define (cpu n) (* 2 n))
(virtual-machine (operating-system %os)
                 (libvirt-domain (cpu (cpu 1)) (maximum-cpu (cpu 4))))"))
  (test-equal "a global variable, of another record" "web"
    (ref (vector-ref (ref (evaluate-text "
(define name \"web\")
(virtual-machine (name \"db\") (operating-system %os)
                 (libvirt-domain (title name)))")
                          "deployment" "machines")
                     0)
         "domain" "title"))
  (test-equal "none: the name before" "db"
    (ref (vector-ref (ref (evaluate-text "
(virtual-machine (name \"db\") (operating-system %os)
                 (libvirt-domain (title name)))")
                          "deployment" "machines")
                     0)
         "domain" "title"))
  (test-equal "inherited" 8
    (maximum "
(define base (libvirt-domain (title \"base\")))
(define (machine cpu)
  (virtual-machine (operating-system %os)
                   (libvirt-domain (inherit base) (cpu 4) (maximum-cpu cpu))))
(machine 8)")))

(test-group "signs of readiness"
  (define machine
    (evaluate-machine "(operating-system %os) (ready-timeout 30)
(ready (list (address) (tcp-port 22) (console \"login:\") (guest-agent)))"))

  (test-equal "a single sign"
    22
    (ref (evaluate-machine "(operating-system %os) (ready (tcp-port 22))")
         "ready" 0 "port"))
  (test-equal "address" '(("kind" . "address")) (ref machine "ready" 0))
  (test-equal "port" 22 (ref machine "ready" 1 "port"))
  (test-equal "console" "login:" (ref machine "ready" 2 "pattern"))
  (test-equal "agent" '(("kind" . "guest-agent")) (ref machine "ready" 3))
  (test-equal "time" 30 (ref machine "ready-timeout"))
  (test-equal "forms are procedures too"
    443 (ref (evaluate-machine "(operating-system %os)
(ready (map tcp-port '(80 443)))") "ready" 1 "port")))

(test-group "the last expression"
  (define (names text)
    (map (lambda (machine)
           (ref machine "name"))
         (vector->list (ref (evaluate-text text) "deployment" "machines"))))

  (test-equal "an operating-system" '("host") (names "%os"))
  (test-equal "a machine" '("host")
    (names "(virtual-machine (operating-system %os))"))
  (test-equal "a list" '("a" "b")
    (names "(define (vm n) (virtual-machine (name n) (operating-system %os)))
(list (vm \"a\") (vm \"b\"))"))
  (test-equal "an image" '("host")
    (names "(use-modules (gnu image) (gnu system image))
(image (inherit mbr-hybrid-disk-image) (operating-system %os))"))
  (test-equal "images and operating-systems" '("a" "host" "b")
    (names "(use-modules (gnu system image))
(define (os name) (operating-system (inherit %os) (host-name name)))
(list (os \"a\") (image-with-os mbr-hybrid-disk-image %os)
      (virtual-machine (operating-system (os \"b\"))))"))
  (test-equal "machines of 'guix deploy'" '("a" "b")
    (names "(use-modules (gnu machine) (gnu machine ssh))
(define (server name)
  (machine
    (operating-system (operating-system (inherit %os) (host-name name)))
    (environment managed-host-environment-type)
    (configuration (machine-ssh-configuration
                     (host-name \"192.0.2.1\")
                     (system \"x86_64-linux\")
                     (build-locally? #f)))))
(list (server \"a\") (server \"b\"))"))
  (test-equal "a deployment" '("a")
    (names "(deployment
  (machines (list (virtual-machine (name \"a\") (operating-system %os)))))"))
  (test-equal "only the machines that are asked for" '("b")
    (map (lambda (machine)
           (ref machine "name"))
         (vector->list
          (ref (evaluate-text
                "(define (vm n) (virtual-machine (name n) (operating-system %os)))
(list (vm \"a\") (vm \"b\"))"
                #:names '("b"))
               "deployment" "machines"))))
  (test-equal "those with a tag, and those that are named" '("a" "b" "d")
    (map (cut ref <> "name")
         (vector->list
          (ref (evaluate-text "(define (vm n . tags)
  (virtual-machine (name n) (operating-system %os) (tags tags)))
(list (vm \"a\" \"web\") (vm \"b\" \"db\" \"web\") (vm \"c\" \"db\") (vm \"d\"))"
                              #:names '("d") #:tags '("web"))
               "deployment" "machines"))))
  (test-equal "the hypervisors of all, whichever are asked for"
    #(null "qemu+ssh://b/system")
    (ref (evaluate-text "(define (vm n uri)
  (virtual-machine (name n) (operating-system %os) (hypervisor uri)))
(list (virtual-machine (name \"a\") (operating-system %os))
      (vm \"b\" \"qemu+ssh://b/system\") (vm \"c\" \"qemu+ssh://b/system\"))"
                        #:names '("a"))
         "deployment" "hypervisors"))
  (test-equal "what they require, and what they are called together"
    '(#("b" "c") #("web"))
    (let ((machine (ref (evaluate-text "(define (vm n . more)
  (virtual-machine (name n) (operating-system %os) (requires more) (tags \"web\")))
(list (vm \"a\" \"b\" \"c\") (vm \"b\" \"c\") (vm \"c\"))")
                        "deployment" "machines" 0)))
      (list (ref machine "requires") (ref machine "tags")))))

(test-group "the name of a deployment"
  (define (name text)
    (ref (evaluate-text text) "deployment" "name"))

  (test-equal "as it is written" "infra-1.x_y"
    (name "(deployment (name \"infra-1.x_y\")
  (machines (list (virtual-machine (operating-system %os)))))"))
  (test-equal "computed" "infra"
    (name "(define what \"infra\")
(deployment (name what)
  (machines (list (virtual-machine (operating-system %os)))))"))
  (test-equal "inherited" "infra"
    (name "(define base (deployment (name \"infra\")))
(deployment (inherit base)
  (machines (list (virtual-machine (operating-system %os)))))"))
  (test-equal "none" 'null
    (name "(deployment (machines (list (virtual-machine (operating-system %os)))))"))
  (test-equal "none of a machine alone" 'null
    (name "(virtual-machine (operating-system %os))"))
  (test-equal "none of a list" 'null
    (name "(list (virtual-machine (operating-system %os)))"))
  (test-equal "whatever machines are asked for" "infra"
    (ref (evaluate-text "(deployment (name \"infra\")
  (machines (list (virtual-machine (name \"a\") (operating-system %os)))))"
                        #:names '("a"))
         "deployment" "name")))

(test-group "firmware"
  (test-equal "uefi" "efi-raw"
    (ref (evaluate-machine "(operating-system %efi-os)
(libvirt-domain (firmware 'uefi))") "image" "image-type")))

(test-group "images"
  (define machine
    (evaluate-machine "(image (make-image \"btrfs\"))
(libvirt-domain (firmware 'uefi))"))

  (test-equal "the name is the host's" "host" (ref machine "name"))
  (test-equal "kind" "system" (ref machine "image" "kind"))
  (test-equal "no image type" 'null (ref machine "image" "image-type"))
  (test-equal "the root is what the image has" "btrfs"
    (ref machine "image" "root-file-system")))

(test-equal "each field of a domain is told under its name"
  (sort (map (match-lambda
               ((field . _) (string-trim-right (symbol->string field) #\?)))
             (declaration-values (libvirt-domain)))
        string<?)
  (sort (map car (domain "")) string<?))

(test-end "language")
