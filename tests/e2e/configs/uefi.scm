;;; SPDX-License-Identifier: GPL-3.0-or-later
;; The example of a machine with UEFI firmware, with less in its system.
(use-modules (quick))

(define example (load "../../../examples/uefi.scm"))

(virtual-machine
  (inherit example)
  (operating-system (quick (virtual-machine-operating-system example))))
