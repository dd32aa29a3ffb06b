;;; SPDX-License-Identifier: GPL-3.0-or-later
;;;
;;; (ip addr) -- stand-in of Guile-Netlink's module of this name.

(define-module (ip addr)
  #:use-module (ip command)
  #:export (addr-add addr-del))

(define* (addr-add device address #:key (ipv6? #f))
  "Give DEVICE the ADDRESS, in CIDR notation."
  (ip (if ipv6? "-6" "-4") "address" "replace" address "dev" device))

(define* (addr-del device address #:key (ipv6? #f))
  "Take the ADDRESS from DEVICE."
  (ip (if ipv6? "-6" "-4") "address" "delete" address "dev" device))
