;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm system assembled-image)
  #:use-module (gnu bootloader)
  #:use-module (gnu image)
  #:use-module (gnu packages base)
  #:use-module (gnu packages gnupg)
  #:use-module (gnu packages guile)
  #:use-module (gnu packages linux)
  #:use-module (gnu services)
  #:use-module (gnu system)
  #:use-module (gnu system file-systems)
  #:use-module (gnu system image)
  #:use-module (guix gexp)
  #:use-module (guix modules)
  #:use-module (guix packages)
  #:use-module ((guix self) #:select (make-config.scm))
  #:use-module (guix utils)
  #:use-module (ice-9 match)
  #:use-module ((srfi srfi-1) #:select (append-map every last)) ;not 'partition'
  #:export (can-assemble?
            empty-image
            assembled-image))

;;; Commentary:
;;;
;;; A disk image that holds what Guix's own image of the same operating-system holds, in
;;; less time.  Guix copies the closure, makes a file system of it, makes a disk of that,
;;; and copies the disk; each of these is a store item whose digest is computed.  Here,
;;; partition table, boot loader and all partitions but the root are taken from the image
;;; of an empty system, which is built once for all systems of the same layout, and the root
;;; file system is written where it is to be.
;;;
;;; Code:

(define %empty-root-size
  ;; For a boot loader's files, a journal, and no more, in bytes.
  (* 32 (expt 2 20)))

(define (root-partition-of image)
  ;; That it is the last one is a rule of (pyguixvm system image).
  (last (image-partitions image)))

(define (indifferent? partition)
  "Does PARTITION, not a root, hold the same whatever system is in its image?  What fills
one is told of the system and its boot loader's configuration."
  (match (partition-initializer partition)
    (#f
     ;; Guix fills it as a root then, where it has files.
     (->bool (member (partition-file-system partition)
                     '("swap" "unformatted"))))
    (initializer
     (->bool (memq initializer
                   (map partition-initializer
                        (list esp-partition/grub esp32-partition/grub)))))))

(define (can-assemble? image)
  "Can an image that equals what Guix makes of IMAGE be assembled?"
  (let ((root (root-partition-of image)))
    (and (eq? 'disk-image (image-format image))
         (not (image-shared-store? image))
         ;; Otherwise, it may be for another architecture than this one.
         (not (image-platform image))
         (not (%current-target-system))
         (eq? 'guess (partition-size root))
         (string-prefix? "ext" (partition-file-system root))
         ;; What else a root may be filled by is not known.
         (eq? (partition-initializer root)
              (partition-initializer root-partition))
         (every indifferent?
                (delq root (image-partitions image))))))

(define (empty-system loader type)
  "Return an operating-system of which nothing is in the store but what tells that there
is nothing; LOADER, a <bootloader>, is to start it from a root of TYPE."
  (define unconfigured
    (bootloader
     (inherit loader)
     (configuration-file-generator
      (lambda _
        (plain-file "empty.cfg" "")))))

  (operating-system
    (host-name "empty")
    (bootloader (bootloader-configuration
                  (bootloader unconfigured)
                  (targets '())))
    (file-systems (list (file-system
                          (mount-point "/")
                          (device "/dev/placeholder")
                          (type type))))
    (essential-services (list (service system-service-type '())))
    (services '())))

(define (empty-image disk-image loader)
  "Return, as a file-like object, the disk image of an empty system with the partitions
of DISK-IMAGE, an <image>, and LOADER, a <bootloader>."
  (system-image
   (image
    (inherit disk-image)
    (operating-system
      (empty-system loader
                    (partition-file-system (root-partition-of disk-image))))
    (partitions
     (map (lambda (each)
            (if (eq? each (root-partition-of disk-image))
                ;; Guix's guess has no room for a journal.
                (partition (inherit each) (size %empty-root-size))
                each))
          (image-partitions disk-image))))))

(define %extensions
  ;; As 'gcrypt-sqlite3&co' in (gnu system image).
  (append-map (lambda (package)
                (cons package
                      (match (package-transitive-propagated-inputs package)
                        (((labels packages) ...)
                         packages))))
              (list guile-gcrypt guile-sqlite3)))

(define imported?
  (match-lambda
    (('guix 'config) #f)
    (((or 'guix 'gnu 'pyguixvm) _ ...) #t)
    (_ #f)))

(define (call-with-image-modules exp)
  "Return EXP, a gexp, with the modules that it needs."
  (with-extensions %extensions
    (with-imported-modules `(,@(source-module-closure
                                '((pyguixvm build image)
                                  (gnu build bootloader)
                                  (guix store database))
                                #:select? imported?)
                             ((guix config) => ,(make-config.scm)))
      #~(begin
          (use-modules (pyguixvm build image)
                       (gnu build bootloader)
                       (guix build utils)
                       (guix store database))
          #$exp))))

(define (assembled-image image system bootcfg bootloader empty uuid)
  "Return, as a file-like object, the disk image that holds SYSTEM and BOOTCFG in a root
called by UUID, a string, as 'system-image' makes it of IMAGE, to be started by BOOTLOADER.
EMPTY is what 'empty-image' returned, lowered, as SYSTEM and BOOTCFG are."
  (define root
    (root-partition-of image))

  (define schema
    (local-file (search-path %load-path "guix/store/schema.sql")))

  (define builder
    (call-with-image-modules
     #~(let ((package #+(bootloader-package bootloader))
             (install #+(bootloader-installer bootloader)))
         (sql-schema #$schema)
         (set-path-environment-variable
          "PATH" '("bin" "sbin")
          '#+(list coreutils e2fsprogs fakeroot util-linux))
         ;; As in (gnu system image), for names that are not ASCII.
         (setenv "GUIX_LOCPATH"
                 #+(file-append (libc-utf8-locales-for-target (%current-system))
                                "/lib/locale"))
         (setlocale LC_ALL "en_US.utf8")
         (assemble-image #$output
                         #:empty #+empty
                         #:gpt? #$(eq? 'gpt (image-partition-table-type image))
                         #:system #$system
                         #:graphs '("system" "bootcfg")
                         #:install-bootloader
                         (lambda (root)
                           (when install
                             (install package #f root)))
                         #:bootcfg #$bootcfg
                         #:bootcfg-location
                         #$(bootloader-configuration-file bootloader)
                         #:type #$(partition-file-system root)
                         #:label #$(partition-label root)
                         #:uuid #$uuid
                         #:options '#$(partition-file-system-options root)))))

  (computed-file "disk-image" builder
                 #:local-build? #f
                 #:options `(#:references-graphs (("system" ,system)
                                                  ("bootcfg" ,bootcfg))
                             #:substitutable? ,(image-substitutable? image))))
