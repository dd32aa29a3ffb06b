;;; SPDX-License-Identifier: GPL-3.0-or-later
;; The machine that changes, to be run from the store of its host: with a directory
;; that it keeps.
(virtual-machine
  (inherit (load "change.scm"))
  (name "shared")
  (persist '("/var/lib/kept")))
