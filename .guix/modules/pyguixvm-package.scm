;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm-package)
  #:use-module (gnu packages linux)
  #:use-module (gnu packages monitoring)
  #:use-module (gnu packages python-build)
  #:use-module (gnu packages python-xyz)
  #:use-module (gnu packages serialization)
  #:use-module (gnu packages virtualization)
  #:use-module (gnu packages xml)
  #:use-module (guix build-system pyproject)
  #:use-module (guix gexp)
  #:use-module ((guix licenses) #:prefix license:)
  #:use-module (guix packages)
  #:use-module (guix search-paths)
  #:use-module (srfi srfi-1)
  #:export (pyguixvm))

;;; Commentary:
;;;
;;; pyguixvm, built from the checkout that this file is in.
;;;
;;; Code:

(define %checkout
  (canonicalize-path (string-append (dirname (current-filename)) "/../..")))

(define (part-of-package? file _)
  "Return true if FILE belongs to what is installed, so that nothing is built anew
because a test changed."
  (let ((name (string-drop file (+ 1 (string-length %checkout)))))
    (and (not (string-contains name "__pycache__"))
         (any (lambda (part)
                (or (string=? name part)
                    (string-prefix? (string-append part "/") name)))
              '("COPYING" "README.md" "guix" "pyguixvm" "pyproject.toml")))))

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
      ;; They want a libvirtd, QEMU and Guix of their own: 'make check' runs them.
      #:tests? #f
      #:phases
      #~(modify-phases %standard-phases
          (add-after 'wrap 'wrap-path
            (lambda* (#:key inputs #:allow-other-keys)
              ;; Behind the user's own: another QEMU may be wanted.
              (wrap-program (string-append #$output "/bin/pyguixvm")
                `("PATH" ":" suffix
                  ,(map (lambda (program)
                          (dirname (search-input-file inputs program)))
                        '("bin/qemu-img" "sbin/sfdisk" "sbin/e2fsck")))))))))
    (native-inputs (list python-hatchling))
    (inputs (list e2fsprogs
                  python-click
                  python-libvirt
                  python-lxml
                  python-msgspec
                  python-prometheus-client
                  python-rich
                  python-watchdog
                  qemu-minimal
                  util-linux))
    ;; 'guix vm'.
    (native-search-paths
     (list (search-path-specification
            (variable "GUIX_EXTENSIONS_PATH")
            (files '("share/guix/extensions")))))
    (home-page "https://guix.gnu.org")
    (synopsis "Declare virtual machines in Scheme and run them on libvirt")
    (description
     "Pyguixvm takes a Scheme file that declares virtual machines, each a Guix
@code{operating-system} with the libvirt resources around it.  It builds their images,
grows them without copying, defines and starts the domains, and waits until the guests
are ready.")
    (license license:gpl3+)))

pyguixvm
