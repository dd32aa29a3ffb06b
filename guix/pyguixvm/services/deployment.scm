;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm services deployment)
  #:use-module (gnu services)
  #:use-module (gnu services shepherd)
  #:use-module (guix gexp)
  #:use-module (guix records)
  #:export (pyguixvm-deployment-configuration
            pyguixvm-deployment-configuration?
            pyguixvm-deployment-service-type))

;;; Commentary:
;;;
;;; Machines that a hypervisor's operating-system declares: they are deployed when it boots,
;;; and by a timer, if wanted.
;;;
;;; Code:

(define-record-type* <pyguixvm-deployment-configuration>
  pyguixvm-deployment-configuration make-pyguixvm-deployment-configuration
  pyguixvm-deployment-configuration?
  (package     pyguixvm-deployment-configuration-package)     ;file-like
  (machines    pyguixvm-deployment-configuration-machines)    ;file-like | string: a file
  (guix        pyguixvm-deployment-configuration-guix         ;file name of the command
               (default "/run/current-system/profile/bin/guix"))
  (hypervisor  pyguixvm-deployment-configuration-hypervisor   ;libvirt URI
               (default "qemu:///system"))
  (options     pyguixvm-deployment-configuration-options      ;list of strings
               (default '()))
  (schedule    pyguixvm-deployment-configuration-schedule     ;string for cron, gexp | #f
               (default #f)))

(define (deploy-command config)
  "Return a program that deploys the machines of CONFIG."
  (program-file
   "pyguixvm-deploy"
   #~(begin
       ;; As root's, but for what a session would set.
       (setenv "HOME" "/root")
       (setenv "LANG" "C.UTF-8")
       (setenv "PATH" "/run/current-system/profile/bin:/run/current-system/profile/sbin")
       (setenv "PYGUIXVM_GUIX" #$(pyguixvm-deployment-configuration-guix config))
       (apply execl #$(file-append (pyguixvm-deployment-configuration-package config)
                                   "/bin/pyguixvm")
              "pyguixvm" "-c" #$(pyguixvm-deployment-configuration-hypervisor config)
              "deploy" #$(pyguixvm-deployment-configuration-machines config)
              '#$(pyguixvm-deployment-configuration-options config)))))

(define %requirement
  '(user-processes file-systems networking libvirtd guix-daemon))

(define (deployment-shepherd-services config)
  "Return the services that deploy the machines of CONFIG."
  (let ((command (deploy-command config)))
    (cons (shepherd-service
           (documentation "Deploy the virtual machines that this system declares.")
           (provision '(pyguixvm-deployment))
           (requirement %requirement)
           (one-shot? #t)
           ;; The boot goes on meanwhile.
           (start #~(let ((start (make-forkexec-constructor
                                  (list #$command)
                                  #:log-file "/var/log/pyguixvm-deployment.log")))
                      (lambda _
                        (start)
                        #t)))
           (stop #~(const #f)))
          (if (pyguixvm-deployment-configuration-schedule config)
              (list (shepherd-timer '(pyguixvm-deployment-timer)
                                    (pyguixvm-deployment-configuration-schedule config)
                                    #~(#$command)
                                    #:requirement %requirement
                                    #:documentation
                                    "Deploy the virtual machines that this system \
declares, from time to time."))
              '()))))

(define pyguixvm-deployment-service-type
  (service-type
   (name 'pyguixvm-deployment)
   (extensions
    (list (service-extension shepherd-root-service-type
                             deployment-shepherd-services)))
   (description
    "Have a hypervisor run the virtual machines that a file, part of its own
operating-system, declares: 'pyguixvm deploy' is run whenever it boots, and by a schedule
if there is one.  What is as declared is left alone.")))
