;;; SPDX-License-Identifier: GPL-3.0-or-later
;;;
;;; (testbed runtime) -- C library, Guile, Shepherd and Bash.

(define-module (testbed runtime)
  #:use-module (guix gexp)
  #:use-module (testbed replacement)
  #:use-module (testbed wrapper)
  #:export (debian-runtime
            runtime-recipe
            replace-runtime-packages!))

;;; Commentary:
;;;
;;; What a Guix System cannot do without is one store item, 'debian-runtime';
;;; Guix's packages of these programs are links into it.
;;;
;;; Code:

(define %guile-source
  `(("guile_c" . ,(local-file (testbed-file "c/guile.c") "guile.c"))))

(define debian-runtime
  (recipe->package
   "debian-runtime"
   (recipe (string-append (script-file "guile.sh") (script-file "runtime.sh"))
           #:inputs %guile-source
           #:debian '("guile-3.0" "shepherd" "guile-fibers" "guile-gcrypt"
                      "guile-sqlite3" "guile-zlib" "guile-json" "bash" "gzip"
                      "gcc" "libc-bin"))))

(define %initrd-guile
  (recipe (string-append "compiler=$system/guile/3.0/ccache\n"
                         (script-file "guile.sh")
                         (script-file "initrd-guile.sh"))
          #:inputs %guile-source
          #:debian '("guile-3.0" "gcc" "libc-bin")))

(define* (runtime-recipe script #:key (inputs '()) (debian '()) version)
  "Return a recipe, for SCRIPT, with the runtime among its INPUTS."
  (recipe script
          #:inputs `(("runtime" . ,debian-runtime) ,@inputs)
          #:debian debian
          #:version version))

(define %guile
  (runtime-recipe "\
mkdir -p $out/lib $out/share
from_runtime guile
ln -s $runtime/lib/guile $out/lib/guile
ln -s $runtime/share/guile $out/share/guile
"
                  ;; The profile's search paths hold the effective version.
                  #:version "3.0.11"))

(define %shepherd
  (runtime-recipe "\
mkdir -p $out/lib $out/share
from_runtime shepherd herd halt reboot shutdown
ln -s $runtime/lib/guile $out/lib/guile
ln -s $runtime/share/guile $out/share/guile
"))

(define %glibc
  (runtime-recipe (script-file "glibc.sh") #:debian '("nscd" "libc-bin")))

(define %locales
  (runtime-recipe "\
mkdir -p $out/lib/locale
for name in en_US.utf8 en_US.UTF-8 C.utf8; do
    ln -s $runtime/lib/locale/$name $out/lib/locale/$name
done
"))

(define (replace-runtime-packages!)
  "Replace the packages that make up the runtime."
  (replace-packages! '(gnu packages guile)
    `(guile-3.0 guile-3.0-latest guile-3.0/pinned ,%guile)
    ;; The runtime's Guile has its extensions in its own load path.
    `(guile-sqlite3 guile-zlib guile-zstd guile-lzlib guile-lzma
                    guile-bytestructures guile-json-4 guile-json-3
                    guile-readline ,nothing))
  (replace-packages! '(gnu packages commencement)
    `(guile-final ,%guile))
  (replace-packages! '(gnu packages make-bootstrap)
    `(%guile-static-initrd ,%initrd-guile))
  (replace-packages! '(gnu packages gnupg)
    `(guile-gcrypt libgcrypt libgpg-error ,nothing))
  (replace-packages! '(gnu packages guile-xyz)
    `(guile-fibers guile-colorized ,nothing))
  (replace-packages! '(gnu packages sqlite)
    `(sqlite ,nothing))
  (replace-packages! '(gnu packages admin)
    `(shepherd-1.0 ,%shepherd))
  (replace-packages! '(gnu packages base)
    `(glibc glibc-2.39 ,%glibc)
    `(glibc-utf8-locales ,%locales))
  (replace-packages! '(gnu packages bash)
    `(bash bash-minimal ,(runtime-recipe "from_runtime bash sh\n"))
    ;; Guix's /etc/bashrc reads this file; there is nothing to complete.
    `(bash-completion ,(recipe "\
mkdir -p $out/etc/profile.d
: > $out/etc/profile.d/bash_completion.sh
"))))
