;;; SPDX-License-Identifier: GPL-3.0-or-later
;;;
;;; The 'guix' command of the test bed: Guix's own, after the packages that
;;; Debian can stand in for have been replaced.  Configurations know nothing of
;;; this.  With PYGUIXVM_TESTBED_PACKAGES=guix in the environment, Guix's
;;; packages are left as they are: enough to compute derivations, not to build.

(use-modules (guix ui)
             (ice-9 match))

(define (needs-packages? arguments)
  "Return true unless ARGUMENTS are those of a command that goes without
packages: it should not have to load them."
  (match arguments
    (() #f)
    ((command . _)
     (not (or (string-prefix? "-" command)        ;--version, --help
              (member command '("archive" "describe" "gc" "git" "hash"
                                "processes")))))))

(define (main arguments)
  (when (and (needs-packages? arguments)
             (not (equal? (getenv "PYGUIXVM_TESTBED_PACKAGES") "guix")))
    ((module-ref (resolve-interface '(testbed world))
                 'replace-guix-packages!)))
  (bindtextdomain "guix" "/usr/share/locale")
  (bindtextdomain "guix-packages" "/usr/share/locale")
  (apply guix-main "guix" arguments))

(main (cdr (command-line)))
