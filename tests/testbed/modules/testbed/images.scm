;;; SPDX-License-Identifier: GPL-3.0-or-later
;;;
;;; (testbed images) -- boot loader and tools that make disk images.

(define-module (testbed images)
  #:use-module (gnu artwork)
  #:use-module (guix gexp)
  #:use-module ((srfi srfi-1) #:select (list-index))
  #:use-module (testbed replacement)
  #:use-module (testbed wrapper)
  #:export (replace-image-packages!
            replace-artwork!))

(define (build-tools debian . programs)
  "Return a recipe for PROGRAMS, out of the Debian package DEBIAN, that only
builds run."
  (recipe (string-append "debian_tool " (string-join programs) "\n")
          #:debian (list debian)))

(define (grub platform debian)
  (recipe (string-append "platform=" platform "\n" (script-file "grub.sh"))
          #:debian (list debian "grub-common")))

(define (stand-in directory)
  "Return a recipe for the Guile modules in DIRECTORY of the stand-ins."
  (recipe (script-file "stand-in.sh")
          #:inputs `(("modules" . ,(local-file
                                    (testbed-file
                                     (string-append "stand-ins/" directory))
                                    directory #:recursive? #t)))))

(define (replace-image-packages!)
  "Replace boot loaders and image tools."
  (let ((bios (grub "i386-pc" "grub-pc-bin")))
    (replace-packages! '(gnu packages bootloaders)
      `(grub grub-minimal ,bios)
      `(grub-efi ,(grub "x86_64-efi" "grub-efi-amd64-bin"))))
  (replace-packages! '(gnu packages genimage)
    `(genimage ,(build-tools "genimage" "genimage")))
  (replace-packages! '(gnu packages mtools)
    `(mtools ,(build-tools "mtools" "mcopy" "mmd" "mformat" "mtools")))
  (replace-packages! '(gnu packages linux)
    `(fakeroot ,(build-tools "fakeroot" "fakeroot")))
  (replace-packages! '(gnu packages gtk)
    `(guile-rsvg ,(stand-in "rsvg"))
    `(guile-cairo ,(stand-in "cairo")))
  (replace-packages! '(gnu packages guile)
    `(guile-gdbm-ffi ,(stand-in "gdbm"))))

(define (artwork . _)
  "Return, as a monadic value, the derivation of what there is of the artwork."
  (recipe->derivation (recipe "\
mkdir -p $out/grub
echo '<svg/>' > $out/grub/GuixSD-fully-black-4-3.svg
")
                      "guix-artwork" '("out")))

(define (replace-artwork!)
  "Replace the repository that GRUB's background image would be fetched from."
  (let ((fields (record-type-fields
                 (record-type-descriptor %artwork-repository))))
    (struct-set! %artwork-repository
                 (list-index (lambda (field) (eq? field 'method)) fields)
                 artwork)))
