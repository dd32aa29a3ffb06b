;;; SPDX-License-Identifier: GPL-3.0-or-later

;; The exporter as a service of a Guix System: who runs it, and how.

(use-modules (pyguixvm services exporter)
             (gnu services)
             (gnu services shepherd)
             (gnu system shadow)
             (guix gexp)
             (srfi srfi-1)
             (srfi srfi-64))

(define config
  (pyguixvm-exporter-configuration
   (package (plain-file "pyguixvm" ""))
   (listen "127.0.0.1:9999")))

(define (extension target)
  "Return what the service gives to the service type TARGET."
  (let ((found (find (lambda (extension)
                       (eq? (service-extension-target extension) target))
                     (service-type-extensions pyguixvm-exporter-service-type))))
    ((service-extension-compute found) config)))

(test-begin "exporter")

(test-equal "it has a user of its own, who cannot log in"
  '("pyguixvm-exporter" #t)
  (let ((user (find user-account? (extension account-service-type))))
    (list (user-account-name user) (user-account-system? user))))

(test-equal "it may only look, and only this machine is answered"
  '("qemu:///system?ro" "127.0.0.1:9177")
  (let ((default (pyguixvm-exporter-configuration
                  (package (plain-file "pyguixvm" "")))))
    (list ((@@ (pyguixvm services exporter)
               pyguixvm-exporter-configuration-hypervisor) default)
          ((@@ (pyguixvm services exporter)
               pyguixvm-exporter-configuration-listen) default))))

(test-equal "the Shepherd starts it after libvirtd"
  '((pyguixvm-exporter) #t #t)
  (let ((service (first (extension shepherd-root-service-type))))
    (list (shepherd-service-provision service)
          (and (memq 'libvirtd (shepherd-service-requirement service)) #t)
          (gexp? (shepherd-service-start service)))))

(test-end "exporter")
