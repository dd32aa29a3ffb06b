;;; SPDX-License-Identifier: GPL-3.0-or-later

;; Our services as Guix's commands know services: types with descriptions.

(use-modules (pyguixvm)
             (pyguixvm machine)
             (pyguixvm services deployment)
             (pyguixvm services exporter)
             (pyguixvm services storage)
             (pyguixvm system guest)
             (gnu)
             (gnu services shepherd)
             (guix derivations)
             (guix gexp)
             (guix store)
             (srfi srfi-1)
             (srfi srfi-64))

(define %types
  (list pyguixvm-deployment-service-type
        pyguixvm-exporter-service-type
        persistence-service-type
        growth-service-type))

(define %modules
  (map resolve-interface
       '((pyguixvm services deployment)
         (pyguixvm services exporter)
         (pyguixvm services storage))))

(define os
  (operating-system
    (host-name "web")
    (bootloader (bootloader-configuration
                  (bootloader grub-bootloader)
                  (targets '("/dev/vda"))))
    (file-systems (cons (file-system
                          (mount-point "/")
                          (device (file-system-label "Guix_image"))
                          (type "ext4"))
                        %base-file-systems))))

(define (guest-services)
  "Return the services of the guest that has a disk and something that persists."
  (operating-system-user-services
   (effective-operating-system
    (virtual-machine
      (operating-system os)
      (persist '("/var/lib/kept"))
      (libvirt-domain
        (disks (data-disk (name "db") (size 1G) (target "/var/lib/db"))))))))

(define (value-of type services)
  (service-value (find (lambda (service)
                         (eq? type (service-kind service)))
                       services)))

(define config
  (pyguixvm-deployment-configuration
   (package (plain-file "pyguixvm" ""))
   (machines (plain-file "machines.scm" "(list)"))
   (options '("--no-restart"))))

(define (shepherd-services config)
  ((service-extension-compute
    (first (service-type-extensions pyguixvm-deployment-service-type)))
   config))

(test-begin "service-types")

(test-assert "what searches for service types finds ours, with descriptions"
  (lset= eq? %types
         (filter (lambda (type)
                   (and (memq type %types)
                        (string? (service-type-description type))))
                 (fold-service-types cons '() %modules))))

(test-equal "what persists in a guest, and grows, can be modified as services are"
  '(("/var/lib/kept" "/var/log/kept") ())
  (let ((services (modify-services (guest-services)
                    (persistence-service-type
                     directories => (append directories '("/var/log/kept")))
                    (growth-service-type disks => '()))))
    (list (value-of persistence-service-type services)
          (value-of growth-service-type services))))

(test-equal "and extended"
  '("/var/lib/kept" "/var/lib/more")
  (service-value
   (fold-services (instantiate-missing-services
                   (list (service system-service-type #f)
                         (simple-service 'more persistence-service-type
                                         '("/var/lib/more"))
                         (service persistence-service-type '("/var/lib/kept"))))
                  #:target-type persistence-service-type)))

(test-equal "a hypervisor deploys once when it boots, and by a timer if one is wanted"
  '(((pyguixvm-deployment)) ((pyguixvm-deployment) (pyguixvm-deployment-timer)))
  (list (map shepherd-service-provision (shepherd-services config))
        (map shepherd-service-provision
             (shepherd-services (pyguixvm-deployment-configuration
                                 (inherit config)
                                 (schedule "0 4 * * *"))))))

(test-assert "its system can be computed"
  (with-store store
    (derivation?
     (run-with-store store
       (operating-system-derivation
         (operating-system
           (inherit os)
           (services
            (cons* (simple-service 'libvirtd shepherd-root-service-type
                                   (map (lambda (name)
                                          (shepherd-service
                                           (provision (list name))
                                           (start #~(const #t))))
                                        '(libvirtd networking)))
                   (service pyguixvm-deployment-service-type
                            (pyguixvm-deployment-configuration
                             (inherit config)
                             (schedule "0 4 * * *")))
                   %base-services))))))))

(test-end "service-types")
