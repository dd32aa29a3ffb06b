;;; SPDX-License-Identifier: GPL-3.0-or-later
;;
;; A machine that runs a disk image which exists already, qcow2 or raw: here the
;; file "disk.qcow2" beside this one.

(virtual-machine
  (name "imported")
  (image (local-image "disk.qcow2"))
  (libvirt-domain
    (memory 2G)
    (storage 20G)))
