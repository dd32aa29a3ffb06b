;;; SPDX-License-Identifier: GPL-3.0-or-later
;;;
;;; Everything that 'pyguixvm deploy' needs, pyguixvm of this checkout included:
;;;
;;;   guix shell -m manifest.scm -- pyguixvm deploy
;;;
;;; Guix itself is the one in PATH; with 'guix vm' instead of 'pyguixvm', the one that runs
;;; that.

(packages->manifest
 ;; A file, not a module: nobody has to say '-L guix'.
 (list (load (string-append (dirname (current-filename))
                            "/guix/pyguixvm-package.scm"))))
