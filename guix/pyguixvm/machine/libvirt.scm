;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm machine libvirt)
  #:use-module (pyguixvm evaluator evaluation)
  #:use-module (pyguixvm lint)
  #:use-module ((pyguixvm machine) #:hide (machine-operating-system))
  #:use-module (gnu machine)
  #:use-module (gnu system)
  #:use-module (guix build utils)
  #:use-module (guix diagnostics)
  #:use-module (guix i18n)
  #:use-module (ice-9 match)
  #:use-module (ice-9 popen)
  #:use-module (ice-9 textual-ports)
  #:use-module (json)
  #:use-module (srfi srfi-34)
  #:use-module (srfi srfi-35)
  #:re-export ((virtual-machine . libvirt-configuration))
  #:export (libvirt-environment-type))

;;; Commentary:
;;;
;;; Virtual machines as an environment of 'guix deploy':
;;;
;;;   (machine (operating-system %os)
;;;            (environment libvirt-environment-type)
;;;            (configuration (libvirt-configuration
;;;                             (libvirt-domain (memory 1G)))))
;;;
;;; What is around the operating-system is declared as in a 'virtual-machine'.  The process
;;; of 'guix deploy' computes what is to be built, with its own options, and has the program
;;; do all else.
;;;
;;; Code:

(define (declared-machine machine)
  "Return MACHINE as a <virtual-machine>."
  (match (machine-configuration machine)
    ((? virtual-machine? configuration)
     (machine-of-system configuration (machine-operating-system machine)))
    (_
     (raise (formatted-message (G_ "unsupported machine configuration '~a'
for environment of type '~a'")
                               (machine-configuration machine)
                               (environment-type-name
                                (machine-environment machine)))))))

(define (find-program)
  "Return the file name of pyguixvm: in the profile that this file is in, or else in PATH."
  (define this-file
    "pyguixvm/machine/libvirt.scm")

  (define (up file levels)
    (if (zero? levels)
        file
        (up (dirname file) (- levels 1))))

  (define beside
    ;; share/guile/site/3.0/ is between the two.
    (and=> (search-path %load-path this-file)
           (lambda (file)
             (string-append (up file 7) "/bin/pyguixvm"))))

  (or (and beside (access? beside X_OK) beside)
      (which "pyguixvm")
      (raise (formatted-message (G_ "~a: command not found~%") "pyguixvm"))))

(define (run . arguments)
  "Run pyguixvm with ARGUMENTS, with the Guix that runs this, if that has a name."
  (let ((guix (car (program-arguments))))
    (when (string-prefix? "/" guix)
      (setenv "PYGUIXVM_GUIX" guix))
    (match (status:exit-val (apply system* (find-program) arguments))
      (0 #t)
      (status
       (raise (formatted-message (G_ "pyguixvm ended with exit status ~a")
                                 status))))))

(define (connection-options machine)
  "Return the options that name the hypervisor of MACHINE, a <virtual-machine>."
  (match (virtual-machine-hypervisor machine)
    (#f '())
    (uri (list "--connect" uri))))

(define (configuration-file machine)
  "Return the absolute name of the file that declares the system of MACHINE."
  (match (operating-system-location (machine-operating-system machine))
    (#f (string-append (getcwd) "/" (machine-display-name machine)))
    (location (canonicalize-path
               (or (search-path (cons "/" %load-path) (location-file location))
                   (location-file location))))))

(define (deploy-libvirt machine)
  "Internal implementation of 'deploy-machine' for 'machine' instances with an environment
type of 'libvirt-environment-type'."
  (lambda (store)
    (let* ((declared   (declared-machine machine))
           (deployment (validate-deployment
                        (machines->deployment (list declared))))
           (directory  (mkdtemp (string-append (or (getenv "TMPDIR") "/tmp")
                                               "/guix-deploy.XXXXXX")))
           (file       (string-append directory "/deployment.json")))
      (dynamic-wind
        (const #t)
        (lambda ()
          (call-with-output-file file
            (lambda (port)
              (scm->json (lowered-deployment->json deployment
                                                   (configuration-file machine)
                                                   store)
                         port)))
          (run "deploy" file (virtual-machine-name declared))
          (values #t store))
        (lambda ()
          (delete-file-recursively directory))))))

(define (roll-back-libvirt machine)
  "Internal implementation of 'roll-back-machine' for 'machine' instances with an
environment type of 'libvirt-environment-type'."
  (lambda (store)
    (let ((declared (declared-machine machine)))
      (apply run "rollback" (virtual-machine-name declared)
             (connection-options declared))
      (values #t store))))

(define (ssh-command machine)
  "Return what runs a command in the guest of MACHINE, a <virtual-machine>, in Texinfo."
  (let ((hypervisor (match (connection-options machine)
                      (() "")
                      ((option uri) (string-append option " '" uri "' ")))))
    (string-join (string-split (string-append "pyguixvm ssh " hypervisor
                                              (virtual-machine-name machine)
                                              " -- COMMAND")
                               #\@)
                 "@@")))

(define (libvirt-remote-eval machine exp)
  "Internal implementation of 'machine-remote-eval' for 'machine' instances with an
environment type of 'libvirt-environment-type'."
  ;; It would take the guest's address and keys, which only the program knows, and a Guix
  ;; in the guest.
  (raise (make-compound-condition
          (formatted-message (G_ "machines of type '~a' evaluate nothing")
                             (environment-type-name
                              (machine-environment machine)))
          (condition
           (&fix-hint
            (hint (format #f (G_ "Run @command{~a}.")
                          (ssh-command (declared-machine machine)))))))))

(define libvirt-environment-type
  (environment-type
   (machine-remote-eval libvirt-remote-eval)
   (deploy-machine      deploy-libvirt)
   (roll-back-machine   roll-back-libvirt)
   (name 'libvirt-environment-type)
   (description "Virtual machines on libvirt, which get their disks, domains and
generations of @command{pyguixvm}.")))
