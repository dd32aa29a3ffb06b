;;; SPDX-License-Identifier: GPL-3.0-or-later
;; A program that has a Shepherd run the exporter's service, as a Guix System would, and nothing
;; else.  PYGUIXVM_TEST_PACKAGE has bin/pyguixvm, PYGUIXVM_TEST_LISTEN is where to listen, and
;; PYGUIXVM_TEST_DIRECTORY where the Shepherd has its socket and log.
(use-modules (pyguixvm services exporter)
             (gnu packages admin)
             (gnu services)
             (gnu services shepherd)
             (guix gexp)
             (srfi srfi-1))

(define directory (getenv "PYGUIXVM_TEST_DIRECTORY"))

(define exporter
  (let ((extension (find (lambda (extension)
                           (eq? (service-extension-target extension)
                                shepherd-root-service-type))
                         (service-type-extensions pyguixvm-exporter-service-type))))
    (first ((service-extension-compute extension)
            (pyguixvm-exporter-configuration
              (package (local-file (getenv "PYGUIXVM_TEST_PACKAGE") "pyguixvm"
                                   #:recursive? #t))
              (listen (getenv "PYGUIXVM_TEST_LISTEN")))))))

(define services
  (scheme-file "shepherd.scm"
    #~(begin
        (register-services
         (append
          ;; What it needs is there already.
          (map (lambda (name)
                 (service (list name) #:start (const #t) #:stop (const #f)))
               '#$(shepherd-service-requirement exporter))
          (list (service '#$(shepherd-service-provision exporter)
                         #:requirement '#$(shepherd-service-requirement exporter)
                         #:start #$(shepherd-service-start exporter)
                         #:stop #$(shepherd-service-stop exporter)))))
        (start-service (lookup-service 'pyguixvm-exporter)))))

(program-file "exporter-shepherd"
  #~(execl #$(file-append shepherd-1.0 "/bin/shepherd") "shepherd"
           "--config" #$services
           "--socket" #$(string-append directory "/socket")
           "--logfile" #$(string-append directory "/log")))
