;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm services exporter)
  #:use-module (gnu packages admin)
  #:use-module (gnu services)
  #:use-module (gnu services shepherd)
  #:use-module (gnu system shadow)
  #:use-module (guix gexp)
  #:use-module (guix records)
  #:export (pyguixvm-exporter-configuration
            pyguixvm-exporter-configuration?
            pyguixvm-exporter-service-type))

;;; Commentary:
;;;
;;; 'pyguixvm exporter' on a Guix System, under a user of its own that has no rights but
;;; to look.
;;;
;;; Code:

(define-record-type* <pyguixvm-exporter-configuration>
  pyguixvm-exporter-configuration make-pyguixvm-exporter-configuration
  pyguixvm-exporter-configuration?
  (package     pyguixvm-exporter-configuration-package) ;file-like
  (hypervisor  pyguixvm-exporter-configuration-hypervisor ;libvirt URI
               (default "qemu:///system?ro"))
  (listen      pyguixvm-exporter-configuration-listen     ;ADDRESS:PORT
               (default "127.0.0.1:9177")))

(define %home "/var/lib/pyguixvm-exporter")

(define %accounts
  (list (user-group (name "pyguixvm-exporter") (system? #t))
        (user-account
         (name "pyguixvm-exporter")
         (group "pyguixvm-exporter")
         (system? #t)
         (comment "Exporter of pyguixvm")
         (home-directory %home)
         (shell (file-append shadow "/sbin/nologin")))))

(define (exporter-shepherd-service config)
  (list
   (shepherd-service
    (documentation "Tell Prometheus and people how machines are.")
    (provision '(pyguixvm-exporter))
    (requirement '(user-processes networking libvirtd))
    (start #~(make-forkexec-constructor
              (list #$(file-append (pyguixvm-exporter-configuration-package config)
                                   "/bin/pyguixvm")
                    "-c" #$(pyguixvm-exporter-configuration-hypervisor config)
                    "exporter"
                    "--listen" #$(pyguixvm-exporter-configuration-listen config))
              #:user "pyguixvm-exporter"
              #:group "pyguixvm-exporter"
              #:environment-variables (list (string-append "HOME=" #$%home)
                                            "LANG=C.UTF-8")
              #:log-file "/var/log/pyguixvm-exporter.log"))
    (stop #~(make-kill-destructor)))))

(define pyguixvm-exporter-service-type
  (service-type
   (name 'pyguixvm-exporter)
   (extensions
    (list (service-extension account-service-type (const %accounts))
          (service-extension shepherd-root-service-type exporter-shepherd-service)))
   (description
    "Run 'pyguixvm exporter', which tells Prometheus and people how the machines of a
hypervisor are.")))
