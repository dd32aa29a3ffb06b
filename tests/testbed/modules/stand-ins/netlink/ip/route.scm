;;; SPDX-License-Identifier: GPL-3.0-or-later
;;;
;;; (ip route) -- stand-in of Guile-Netlink's module of this name.

(define-module (ip route)
  #:use-module (ip command)
  #:export (route-add route-del))

(define (route action destination device ipv6? via source)
  (apply ip (if ipv6? "-6" "-4") "route" action destination
         (append (if via (list "via" via) '())
                 (if device (list "dev" device) '())
                 (if source (list "src" source) '()))))

(define* (route-add destination #:key device (ipv6? #f) via src)
  "Add the route to DESTINATION by DEVICE and the gateway VIA."
  (route "replace" destination device ipv6? via src))

(define* (route-del destination #:key device (ipv6? #f) via src)
  "Delete the route to DESTINATION."
  (route "delete" destination device ipv6? via src))
