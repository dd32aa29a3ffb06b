;;; SPDX-License-Identifier: GPL-3.0-or-later
;;;
;;; (testbed services) -- what Guix's services run.

(define-module (testbed services)
  #:use-module ((gnu packages base) #:select (coreutils grep sed))
  #:use-module ((gnu packages gawk) #:select (gawk))
  #:use-module ((gnu packages linux)
                #:select (eudev iproute linux-pam util-linux))
  #:use-module (guix gexp)
  #:use-module (testbed programs)
  #:use-module (testbed replacement)
  #:use-module (testbed runtime)
  #:use-module (testbed wrapper)
  #:export (replace-service-packages!))

(define %coreutils `("coreutils" . ,coreutils))
(define %pam `("pam" . ,linux-pam))

(define %eudev
  (runtime-recipe (script-file "eudev.sh")
                  #:inputs `(,%coreutils
                             ("udevd_c" . ,(local-file
                                            (testbed-file "c/udevd.c"))))
                  #:debian '("gcc" "udev" "libkmod2" "libblkid1" "libacl1")))

(define %linux-pam
  (runtime-recipe (script-file "linux-pam.sh")
                  #:inputs `(("pam_execve_c"
                              . ,(local-file
                                  (testbed-file "c/pam-execve.c"))))
                  #:debian '("gcc" "libpam0g" "libpam-modules"
                             "libpam-modules-bin")))

(define %shadow
  ;; What Debian has in several packages.
  (runtime-recipe "\
with_pam
programs login passwd uidmap
for name in su nologin; do
    [ -e $out/bin/$name ] || program $(command -v $name)
done
" #:inputs (list %pam)
                  #:debian '("login" "passwd" "util-linux" "uidmap")))

(define %sudo
  ;; Its plug-in is where Debian has it, so that it is of use only to the build
  ;; of /etc/sudoers, which 'visudo' checks.
  (runtime-recipe "with_pam; programs sudo\n"
                  #:inputs (list %pam)
                  #:debian '("sudo")))

(define %openssh
  (runtime-recipe (script-file "openssh.sh")
                  #:inputs (list %coreutils %pam)
                  #:debian '("openssh-server" "openssh-client"
                             "openssh-sftp-server")))

(define %dhcpcd
  (runtime-recipe (script-file "dhcpcd.sh")
                  #:inputs `(,%coreutils ("grep" . ,grep) ("sed" . ,sed))
                  #:debian '("dhcpcd-base")))

(define %qemu
  (runtime-recipe (script-file "qemu.sh")
                  #:inputs (list %coreutils)
                  #:debian '("qemu-guest-agent" "qemu-utils")))

(define %cloud-utils
  (runtime-recipe (script-file "cloud-utils.sh")
                  #:inputs `(,%coreutils
                             ("grep" . ,grep)
                             ("sed" . ,sed)
                             ("gawk" . ,gawk)
                             ("util_linux" . ,util-linux)
                             ("eudev" . ,eudev))
                  #:debian '("cloud-guest-utils")))

(define %netlink
  (recipe (string-append (script-file "stand-in.sh") "\
chmod -R u+w $out/share
sed -i \"s|@ip@|$iproute/bin/ip|\" $out/share/guile/site/3.0/ip/command.scm
")
          #:inputs `(("iproute" . ,iproute)
                     ("modules" . ,(local-file
                                    (testbed-file "stand-ins/netlink")
                                    "netlink" #:recursive? #t)))))

(define %guix
  (runtime-recipe (script-file "guix.sh") #:debian '("guix")))

(define (replace-service-packages!)
  "Replace the packages of daemons, and of what they stand on."
  (replace-packages! '(gnu packages linux)
    `(eudev ,%eudev)
    `(linux-pam ,%linux-pam)
    `(acpid ,(programs-of "acpid"))
    `(fuse-2 ,(recipe "mkdir -p $out/bin; : > $out/bin/fusermount\n"))
    `(fuse ,(recipe "mkdir -p $out/bin; : > $out/bin/fusermount3\n")))
  (replace-packages! '(gnu packages admin)
    `(shadow ,%shadow)
    `(sudo ,%sudo)
    `(cloud-utils ,%cloud-utils)
    `(mingetty ,(programs-of "mingetty"))
    `(dhcpcd ,%dhcpcd))
  (replace-packages! '(gnu packages virtualization)
    `(qemu-minimal qemu ,%qemu))
  (replace-packages! '(gnu packages ssh)
    `(openssh openssh-sans-x ,%openssh))
  (replace-packages! '(gnu packages guile-xyz)
    `(guile-netlink ,%netlink))
  (replace-packages! '(gnu packages package-management)
    `(guix ,%guix)))
