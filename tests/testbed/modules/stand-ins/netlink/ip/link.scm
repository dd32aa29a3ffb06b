;;; SPDX-License-Identifier: GPL-3.0-or-later
;;;
;;; (ip link) -- stand-in of Guile-Netlink's module of this name.

(define-module (ip link)
  #:use-module (ice-9 rdelim)
  #:use-module (ip command)
  #:use-module (srfi srfi-9)
  #:export (get-links
            link-name
            link-addr
            link-id
            link-add
            link-del
            link-set
            wait-for-link))

(define-record-type <link>
  (link name id addr)
  link?
  (name link-name)                                ;string
  (id   link-id)                                  ;string: what 'ip' takes
  (addr link-addr))                               ;string: MAC address

(define %devices "/sys/class/net")

(define (read-address device)
  (false-if-exception
   (call-with-input-file (string-append %devices "/" device "/address")
     read-line)))

(define (get-links)
  "Return the network devices that there are."
  (let ((directory (opendir %devices)))
    (let loop ((links '()))
      (let ((name (readdir directory)))
        (cond ((eof-object? name)
               (closedir directory)
               (reverse links))
              ((member name '("." ".."))
               (loop links))
              (else
               (loop (cons (link name name (read-address name)) links))))))))

(define* (link-add name type #:key (type-args '()))
  "Make a device NAME of TYPE; TYPE-ARGS is an alist of its parameters."
  (apply ip "link" "add" "name" name "type" type
         (let loop ((arguments type-args))
           (if (null? arguments)
               '()
               (cons* (object->string (caar arguments) display)
                      (object->string (cdar arguments) display)
                      (loop (cdr arguments)))))))

(define (link-del name)
  "Delete the device NAME."
  (ip "link" "delete" "dev" name))

(define* (link-set device #:key (up #f) (down #f) (multicast-on #f)
                   (multicast-off #f) name mtu addr master)
  "Change DEVICE as said."
  (apply ip "link" "set" "dev" device
         (append (if multicast-on '("multicast" "on") '())
                 (if multicast-off '("multicast" "off") '())
                 (if name (list "name" name) '())
                 (if mtu (list "mtu" (object->string mtu display)) '())
                 (if addr (list "address" addr) '())
                 (if master (list "master" master) '())
                 (if down '("down") '())
                 (if up '("up") '()))))

(define (wait-for-link device)
  "Return when there is a DEVICE.  The caller has set an alarm."
  (unless (file-exists? (string-append %devices "/" device))
    (usleep 100000)
    (wait-for-link device)))
