;;; SPDX-License-Identifier: GPL-3.0-or-later
;;;
;;; (testbed kernel) -- Linux, and what the initial RAM disk is made of.

(define-module (testbed kernel)
  #:use-module (gnu system linux-initrd)
  #:use-module (guix gexp)
  #:use-module (ice-9 ftw)
  #:use-module (ice-9 match)
  #:use-module (testbed replacement)
  #:use-module (testbed runtime)
  #:use-module (testbed wrapper)
  #:export (replace-kernel-packages!
            load-root-file-system-modules!))

;;; Commentary:
;;;
;;; Debian's kernel is unpacked in a directory rather than installed: dpkg
;;; does not know its version, the names of its directories do.
;;;
;;; Code:

(define %kernel-directory "/usr/lib/pyguixvm-testbed/kernel")

(define (kernel-releases)
  "Return the releases of the kernels that are unpacked."
  (or (scandir (string-append %kernel-directory "/lib/modules")
               (lambda (name) (not (string-prefix? "." name))))
      '()))

(define (kernel-recipe)
  (recipe (string-append "kernel=" %kernel-directory "\n"
                         "# " (string-join (kernel-releases)) "\n"
                         (script-file "kernel.sh"))
          #:debian '("kmod" "xz-utils" "zstd")))

(define %e2fsck
  (recipe "\
mkdir -p $out/sbin
cp -L /usr/sbin/e2fsck.static $out/sbin/e2fsck
for type in ext2 ext3 ext4; do ln -s e2fsck $out/sbin/fsck.$type; done
"
          #:debian '("e2fsck-static")))

(define %btrfs
  ;; With its own C library: the initial RAM disk shall not hold the runtime.
  (recipe "\
program /usr/bin/btrfs
ln -s btrfs $out/bin/fsck.btrfs
"
          #:debian '("btrfs-progs")))

(define %fatfsck
  (recipe "\
program /usr/sbin/fsck.fat $out/sbin/fsck.fat
ln -s fsck.fat $out/sbin/fsck.vfat
"
          #:debian '("dosfstools")))

(define %loadkeys
  (recipe "program /usr/bin/loadkeys\n" #:debian '("kbd")))

(define (replace-kernel-packages!)
  "Replace the kernel and the programs of the initial RAM disk."
  (replace-packages! '(gnu packages linux)
    `(linux-libre linux-libre-lts ,(kernel-recipe))
    `(e2fsck/static ,%e2fsck)
    `(btrfs-progs/static ,%btrfs)
    `(loadkeys-static ,%loadkeys))
  (replace-packages! '(gnu packages disk)
    `(fatfsck/static ,%fatfsck))
  ;; 'operating-system' asks for these wireless devices' by default.
  (replace-packages! '(gnu packages firmware)
    `(ath9k-htc-ar7010-firmware ath9k-htc-ar9271-firmware openfwwf-firmware
                                ,nothing)))

(define (load-root-file-system-modules!)
  "Have every initial RAM disk load the driver of ext4, which is a module in
Debian's kernel and built into Guix's."
  (let* ((module   (resolve-module '(gnu system linux-initrd)))
         (original base-initrd))
    (define (without-linux-modules arguments)
      (match arguments
        ((#:linux-modules _ . rest)
         (without-linux-modules rest))
        ((keyword value . rest)
         (cons* keyword value (without-linux-modules rest)))
        (() '())))

    (module-set! module 'base-initrd
                 (lambda* (file-systems #:key (linux-modules '())
                                        #:allow-other-keys #:rest rest)
                   (apply original file-systems
                          #:linux-modules (append linux-modules '("ext4"))
                          (without-linux-modules rest))))))
