;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm)
  #:use-module (pyguixvm libvirt)
  #:use-module (pyguixvm machine)
  #:use-module (pyguixvm readiness)
  #:use-module (pyguixvm services power)
  #:use-module (pyguixvm storage)
  #:re-export (deployment
               virtual-machine
               this-virtual-machine
               libvirt-domain
               networking
               data-disk
               block-device
               mount-point
               local-image
               remote-image
               shutdown-service

               virtual-machine-name
               virtual-machine-operating-system
               virtual-machine-libvirt-domain

               address
               tcp-port
               console
               guest-agent))

;;; Commentary:
;;;
;;; What a configuration file sees.  It is there without asking: 'pyguixvm' loads
;;; configurations with this module imported.  A library of machines imports it
;;; with (use-modules (pyguixvm)).
;;;
;;; Code:
