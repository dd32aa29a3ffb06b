;;; SPDX-License-Identifier: GPL-3.0-or-later
;; The example of a machine with a btrfs root, with less in its system.
(use-modules (gnu image)
             (pyguixvm machine)
             (quick))

(define example (load "../../../examples/btrfs.scm"))

(define image-of-example (virtual-machine-image example))

(virtual-machine
  (inherit example)
  (image
    (image
      (inherit image-of-example)
      (operating-system (quick (image-operating-system image-of-example))))))
