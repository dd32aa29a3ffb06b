;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm-package)
  #:use-module (gnu packages bash)
  #:use-module (gnu packages check)
  #:use-module (gnu packages compression)
  #:use-module (gnu packages guile)
  #:use-module (gnu packages linux)
  #:use-module (gnu packages monitoring)
  #:use-module (gnu packages package-management)
  #:use-module (gnu packages python-build)
  #:use-module (gnu packages python-check)
  #:use-module (gnu packages python-xyz)
  #:use-module (gnu packages serialization)
  #:use-module (gnu packages virtualization)
  #:use-module (gnu packages xml)
  #:use-module (guix build-system pyproject)
  #:use-module (guix gexp)
  #:use-module ((guix licenses) #:prefix license:)
  #:use-module (guix packages)
  #:use-module (guix search-paths)
  #:use-module ((guix utils) #:select (current-source-directory))
  #:use-module (srfi srfi-1)
  #:export (pyguixvm))

;;; Commentary:
;;;
;;; pyguixvm, built from the checkout that this file is in; as a channel, from the commit
;;; that was pulled.
;;;
;;; Code:

(define %checkout
  ;; The second one is for a relative '-L'; the first one for a channel, which is compiled
  ;; elsewhere than it is loaded.
  (canonicalize-path (string-append (or (current-source-directory)
                                        (dirname (current-filename)))
                                    "/..")))

(define (part-of-package? file _)
  "Return true if FILE belongs to what is installed, so that nothing is built anew
because a test changed."
  (let ((name (string-drop file (+ 1 (string-length %checkout)))))
    (and (not (string-contains name "__pycache__"))
         (any (lambda (part)
                (or (string=? name part)
                    (string-prefix? (string-append part "/") name)
                    ;; A directory that PART is in.
                    (string-prefix? (string-append name "/") part)))
              '("COPYING" "README.md" "doc/pyguixvm.1" "guix" "pyguixvm"
                "pyproject.toml" "tests/unit"))
         (not (string=? name "guix/pyguixvm-package.scm")))))

(define pyguixvm
  (package
    (name "pyguixvm")
    (version "0.1.0")
    (source (local-file %checkout "pyguixvm-checkout"
                        #:recursive? #t
                        #:select? part-of-package?))
    (build-system pyproject-build-system)
    (arguments
     (list
      ;; Left out are those of more than what is installed, and those that want a
      ;; libvirtd, QEMU and Guix of their own: 'make check' runs them.
      #:test-flags
      #~(cons "tests/unit"
              (map (lambda (name)
                     (string-append "--ignore=tests/unit/test_" name ".py"))
                   '("cases" "cli" "doc" "documents" "record" "venv")))
      #:phases
      #~(modify-phases %standard-phases
          (add-after 'install 'install-modules
            (lambda _
              ;; Where a user's channel, Geiser and 'guix repl' look for them.
              (let* ((site     (lambda (directory)
                                 (string-append #$output directory
                                                (effective-version))))
                     (modules  (site "/share/guile/site/"))
                     (compiled (string-append (site "/lib/guile/")
                                              "/site-ccache"))
                     (scheme   (first (find-files #$output "^scheme$"
                                                  #:directories? #t))))
                (copy-recursively scheme modules)
                (delete-file-recursively scheme)
                (symlink modules scheme)
                (invoke "guile" "--no-auto-compile" "-L" modules "-c"
                        (object->string
                         `(begin
                            (use-modules (pyguixvm evaluator compilation))
                            (compile-to ,modules ,compiled)))))))
          (add-after 'wrap 'wrap-path
            (lambda* (#:key inputs #:allow-other-keys)
              ;; Behind the user's own: another QEMU may be wanted.
              (wrap-program (string-append #$output "/bin/pyguixvm")
                `("PATH" ":" suffix
                  ,(map (lambda (program)
                          (dirname (search-input-file inputs program)))
                        '("bin/btrfs" "bin/qemu-img" "bin/zstd"
                          "sbin/e2fsck" "sbin/sfdisk"))))))
          (add-after 'wrap-path 'install-completion
            (lambda _
              (for-each
               (match-lambda
                 ((shell directory file)
                  (let ((target (string-append #$output "/" directory)))
                    (mkdir-p target)
                    (setenv "_PYGUIXVM_COMPLETE" (string-append shell "_source"))
                    (with-output-to-file (string-append target "/" file)
                      (lambda ()
                        (invoke (string-append #$output "/bin/pyguixvm")))))))
               '(("bash" "share/bash-completion/completions" "pyguixvm")
                 ("zsh" "share/zsh/site-functions" "_pyguixvm")
                 ("fish" "share/fish/vendor_completions.d" "pyguixvm.fish")))
              (unsetenv "_PYGUIXVM_COMPLETE"))))
      #:modules '((guix build pyproject-build-system)
                  (guix build utils)
                  (ice-9 match)
                  (srfi srfi-1))))
    (native-inputs (list guile-3.0
                         guix
                         python-hatchling
                         python-hypothesis
                         python-pytest))
    (inputs (list bash-minimal
                  btrfs-progs
                  e2fsprogs
                  python-click
                  python-libvirt
                  python-lxml
                  python-msgspec
                  python-prometheus-client
                  python-rich
                  python-watchdog
                  qemu-minimal
                  util-linux
                  zstd))
    (native-search-paths
     (cons
      ;; 'guix vm'.
      (search-path-specification
       (variable "GUIX_EXTENSIONS_PATH")
       (files '("share/guix/extensions")))
      (package-native-search-paths guile-3.0)))
    (home-page "https://guix.gnu.org")
    (synopsis "Declare virtual machines in Scheme and run them on libvirt")
    (description
     "Pyguixvm takes a Scheme file that declares virtual machines, each a Guix
@code{operating-system} with the libvirt resources around it.  It builds their images,
grows them without copying, defines and starts the domains, and waits until the guests
are ready.")
    (license license:gpl3+)))

pyguixvm
