;;; SPDX-License-Identifier: GPL-3.0-or-later
;;;
;;; (ip command) -- run iproute's 'ip' for the stand-ins of Guile-Netlink.

(define-module (ip command)
  #:use-module (ice-9 popen)
  #:use-module (ice-9 textual-ports)
  #:use-module (srfi srfi-1)
  #:use-module (netlink error)
  #:export (ip
            ip-output))

(define %ip
  ;; The package's build puts the file name of 'ip' here.
  "@ip@")

(define (ip . arguments)
  "Run 'ip' with ARGUMENTS, strings or #f, which is left out."
  (let ((arguments (filter identity arguments)))
    (unless (zero? (status:exit-val (apply system* %ip arguments)))
      (raise-netlink-error arguments))))

(define (ip-output . arguments)
  "Return what 'ip' prints when run with ARGUMENTS."
  (let* ((port   (apply open-pipe* OPEN_READ %ip arguments))
         (output (get-string-all port)))
    (close-pipe port)
    output))
