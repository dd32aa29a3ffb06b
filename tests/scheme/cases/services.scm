;;; SPDX-License-Identifier: GPL-3.0-or-later

;; Which services go and start in a running guest: what Guix itself decides.

(use-modules (pyguixvm build services)
             (gnu services herd)
             (gnu services shepherd)
             (guix gexp)
             (ice-9 match)
             (srfi srfi-1)
             (srfi srfi-11)
             (srfi srfi-64))

(define (guix-unloads live wanted)
  "Return what Guix's own 'shepherd-service-upgrade' unloads."
  (let-values (((unload restart)
                (shepherd-service-upgrade
                 (map (match-lambda
                        ((provision requirement transient? running)
                         (live-service provision requirement transient? running)))
                      live)
                 (map (match-lambda
                        ((provision auto-start?)
                         (shepherd-service (provision provision)
                                           (auto-start? auto-start?)
                                           (start #~(const #t)))))
                      wanted))))
    (map live-service-canonical-name unload)))

(define %live
  '(((root shepherd) () #f #t)
    ((networking) () #f #t)
    ((web httpd) (networking) #f 12)
    ((stopped) () #f #f)
    ((sshd-1) (networking) #t 13)
    ((old) () #f #t)
    ((over-old) (old) #f #t)
    ((base) () #f #t)
    ((kept) (base) #f #t)))

(define %wanted
  '(((networking) #t) ((stopped) #t) ((manual) #f) ((kept) #t) ((new) #t)))

(test-begin "services")

(test-equal "what goes is what Guix unloads"
  (guix-unloads %live %wanted)
  (obsolete-services %live %wanted))

(test-equal "what goes, and not what something that stays depends on"
  '(web old over-old)
  (obsolete-services %live %wanted))

(test-equal "nothing goes when all is wanted"
  '()
  (obsolete-services %live (map (match-lambda
                                  ((provision . _) (list provision #t)))
                                %live)))

(test-equal "what starts"
  '(stopped new)
  (services-to-start %live %wanted))

(test-end "services")
