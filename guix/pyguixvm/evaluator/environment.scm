;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm evaluator environment)
  #:use-module ((guix build download) #:select (%x509-certificate-directory))
  #:use-module (web client)
  #:export (adopt-environment))

;;; Commentary:
;;;
;;; The environment of a client, in a process that began with another one.  What Guix and
;;; Guile make of theirs while their modules are loaded is in part set anew here; the rest
;;; tells one evaluator from another, see pyguixvm/guix/endpoint.py.
;;;
;;; Code:

(define (variable name)
  "Return the value of the variable NAME of the environment, or #f if it is empty, too."
  (let ((value (getenv name)))
    (and value
         (not (string-null? value))
         value)))

(define (reread-environment!)
  "Have the parameters that were made of the environment follow that of now."
  (current-http-proxy (variable "http_proxy"))
  (current-https-proxy (variable "https_proxy"))
  (let ((certificates (or (variable "SSL_CERT_DIR") "/etc/ssl/certs")))
    (unless (variable "GUILE_TLS_CERTIFICATE_DIRECTORY")
      (x509-certificate-directory certificates))
    (unless (variable "GUIX_TLS_CERTIFICATE_DIRECTORY")
      (%x509-certificate-directory certificates))))

(define (adopt-environment variables directory)
  "Give this process VARIABLES, \"NAME=VALUE\" strings, for its environment, and the
working directory DIRECTORY, each unless it is #f."
  (when variables
    (environ variables)
    (reread-environment!))
  (false-if-exception (setlocale LC_ALL ""))
  (when directory
    (chdir directory)))
