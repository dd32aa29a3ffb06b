;;; SPDX-License-Identifier: GPL-3.0-or-later
;;;
;;; Everything that 'pyguixvm deploy' needs, pyguixvm of this checkout included:
;;;
;;;   guix shell -m manifest.scm -- pyguixvm deploy
;;;
;;; Guix itself is the one that runs 'guix shell'.

(packages->manifest
 ;; A file, not a module: nobody has to say '-L .guix/modules'.
 (list (load (string-append (dirname (current-filename))
                            "/.guix/modules/pyguixvm-package.scm"))))
