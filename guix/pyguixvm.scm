;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm)
  #:use-module (pyguixvm libvirt)
  #:use-module (pyguixvm machine)
  #:use-module (pyguixvm readiness)
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

               virtual-machine-name
               virtual-machine-operating-system
               virtual-machine-libvirt-domain

               address
               tcp-port
               console
               guest-agent

               ;; The same, by names that no module of Guix's has.
               (virtual-machine . libvirt-machine)
               (this-virtual-machine . this-libvirt-machine)
               (virtual-machine-name . libvirt-machine-name)
               (virtual-machine-operating-system . libvirt-machine-operating-system)
               (virtual-machine-libvirt-domain . libvirt-machine-libvirt-domain)
               (mount-point . libvirt-mount-point)
               (deployment . libvirt-deployment)
               (networking . libvirt-networking)
               (data-disk . libvirt-data-disk)
               (block-device . libvirt-block-device)
               (local-image . libvirt-local-image)
               (remote-image . libvirt-remote-image)))

;;; Commentary:
;;;
;;; What a configuration file sees.  It is there without asking: 'pyguixvm' loads
;;; configurations with this module imported.  A library of machines imports it
;;; with (use-modules (pyguixvm)).
;;;
;;; Code:
