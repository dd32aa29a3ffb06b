;;; SPDX-License-Identifier: GPL-3.0-or-later
;;;
;;; (netlink error) -- stand-in of Guile-Netlink's module of this name.

(define-module (netlink error)
  #:use-module (srfi srfi-34)
  #:use-module (srfi srfi-35)
  #:export (&netlink-error
            netlink-error?
            netlink-error-arguments
            raise-netlink-error))

(define-condition-type &netlink-error &error
  netlink-error?
  (arguments netlink-error-arguments))            ;what 'ip' was told to do

(define (raise-netlink-error arguments)
  "Say that 'ip' failed when run with ARGUMENTS."
  (raise (condition (&netlink-error (arguments arguments)))))
