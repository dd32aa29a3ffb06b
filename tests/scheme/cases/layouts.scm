;;; SPDX-License-Identifier: GPL-3.0-or-later

;; Which images can share what they stand on: those of one layout.

(use-modules (tests configuration)
             (tests systems)
             (ice-9 match)
             (srfi srfi-64))

(define (image initializer)
  "Return the text of an <image> whose ESP is filled by INITIALIZER."
  (string-append "(make-image \"ext4\" #:partitions (lambda (esp root) \
(list (partition (inherit esp) (initializer " initializer ")) root)))"))

(define (installed-by installer)
  "Return the text of an operating-system whose boot loader INSTALLER puts into an image."
  (string-append "(operating-system (inherit %os) (bootloader (bootloader-configuration \
(targets '(\"/dev/vda\")) (bootloader (bootloader (inherit grub-bootloader) \
(disk-image-installer " installer "))))))"))

(define (content clauses key)
  "Return what is called KEY of the content of the image of the machine with CLAUSES."
  (ref (evaluate-text (string-append
                       "(use-modules (gnu) (gnu image) (guix gexp) (guix modules))
(virtual-machine " clauses ")")
                      #:want 'images)
       "deployment" "machines" 0 "image" "content" key))

(define (layout clauses)
  "Return the layout of the machine with CLAUSES."
  (content clauses "layout"))

(define (assembled? esp)
  "Is an image assembled whose first partition is ESP, a text, as 'esp' is Guix's?"
  (match (content (string-append "(image (make-image \"ext4\" #:partitions \
(lambda (esp root) (list " esp " root)))) (libvirt-domain (firmware 'uefi))")
                  "assembled")
    ((or #f 'null) #f)
    (_ #t)))

(define (layout/image initializer)
  (layout (string-append "(image " (image initializer)
                         ") (libvirt-domain (firmware 'uefi))")))

(define (layout/os os)
  (layout (string-append "(operating-system " os ")")))

(define (with text)
  (format #f "(let ((text ~s)) (gexp (lambda (root . _) (display (ungexp text)))))"
          text))

(test-begin "layouts")

(test-equal "a partition that is filled as another one"
  (layout/image (with "one"))
  (layout/image (with "one")))

(test-assert "a partition that is filled otherwise"
  (not (equal? (layout/image (with "one")) (layout/image (with "other")))))

(test-assert "a partition that is filled with other modules"
  (not (equal? (layout/image "#~(lambda _ #t)")
               (layout/image "(with-imported-modules '((guix build utils)) \
#~(lambda _ #t))"))))

(test-equal "a boot loader that is installed as another one"
  (layout/os (installed-by "#~(lambda _ 1)"))
  (layout/os (installed-by "#~(lambda _ 1)")))

(test-assert "a boot loader that is installed otherwise"
  (not (equal? (layout/os (installed-by "#~(lambda _ 1)"))
               (layout/os (installed-by "#~(lambda _ 2)")))))

(test-equal "what is in an image is no layout"
  (layout/os "%os")
  (layout/os "(operating-system (inherit %os) (host-name \"other\"))"))

(test-assert "an image is assembled if Guix fills its other partitions with a boot loader"
  (assembled? "esp"))

(test-assert "an ESP for firmware of 32 bits is one"
  (assembled? "(partition (inherit esp)
 (initializer (partition-initializer (@ (gnu system image) esp32-partition/grub))))"))

(test-assert "an image with a partition that may hold something of the system is Guix's"
  (not (assembled? "(partition (inherit esp) (initializer #~(lambda _ #t)))")))

(test-assert "so is one with a partition that Guix fills as a root"
  (not (assembled? "(partition (inherit esp) (initializer #f))")))

(test-assert "a swap space holds nothing"
  (assembled? "esp (partition (size 1048576) (label \"swap\") (file-system \"swap\"))"))

(test-end "layouts")
