;;; SPDX-License-Identifier: GPL-3.0-or-later
;;;
;;; (testbed programs) -- programs that people, scripts and builds run.

(define-module (testbed programs)
  #:use-module ((gnu packages linux) #:select (util-linux))
  #:use-module (testbed replacement)
  #:use-module (testbed runtime)
  #:use-module (testbed wrapper)
  #:export (programs-of
            replace-program-packages!))

(define* (programs-of #:rest debian)
  "Return a recipe for all programs of the Debian packages DEBIAN."
  (runtime-recipe "programs $debian\n" #:debian debian))

(define %net-base
  (recipe "\
mkdir -p $out/etc
cp -L /etc/services /etc/protocols /etc/rpc /etc/ethertypes $out/etc/
"
          #:debian '("netbase")))

(define %certificates
  (recipe "\
mkdir -p $out/etc/ssl/certs
for file in /usr/share/ca-certificates/mozilla/*.crt; do
    name=${file##*/}
    cp $file $out/etc/ssl/certs/${name%.crt}.pem
done
"
          #:debian '("ca-certificates")))

(define %tzdata
  (recipe "\
mkdir -p $out/share
cp -RL /usr/share/zoneinfo $out/share/zoneinfo
rm -rf $out/share/zoneinfo/right $out/share/zoneinfo/posix
"
          #:debian '("tzdata")))

(define %console-font
  ;; Under the name of the font that Guix's service loads by default.
  (recipe "\
mkdir -p $psf/share/consolefonts
cp /usr/share/consolefonts/Uni2-Fixed16.psf.gz \
   $psf/share/consolefonts/Unifont-APL8x16.psf.gz
"
          #:debian '("console-setup-linux")))

(define (replace-base-packages!)
  (replace-packages! '(gnu packages base)
    `(coreutils coreutils-minimal ,(programs-of "coreutils"))
    `(findutils ,(programs-of "findutils"))
    `(grep ,(programs-of "grep"))
    `(sed ,(programs-of "sed"))
    `(tar ,(programs-of "tar"))
    `(which ,(runtime-recipe "program /usr/bin/which.debianutils $out/bin/which\n"
                             #:debian '("debianutils")))
    `(diffutils ,(programs-of "diffutils"))
    `(patch ,(programs-of "patch"))
    `(tzdata tzdata-for-tests ,%tzdata))
  (replace-packages! '(gnu packages compression)
    `(gzip ,(runtime-recipe (script-file "gzip.sh") #:debian '("gzip")))
    `(bzip2 ,(programs-of "bzip2"))
    `(lzip ,(programs-of "lzip"))
    `(xz ,(programs-of "xz-utils"))
    `(zstd ,(programs-of "zstd")))
  (replace-packages! '(gnu packages gawk)
    `(gawk ,(runtime-recipe "programs gawk; ln -s gawk $out/bin/awk\n"
                            #:debian '("gawk")))))

(define (replace-system-packages!)
  (replace-packages! '(gnu packages linux)
    `(util-linux ,(programs-of "util-linux" "mount" "fdisk" "bsdutils"))
    `(util-linux+udev ,(recipe "ln -s $util_linux $out\n"
                               #:inputs `(("util_linux" . ,util-linux))))
    `(kmod ,(programs-of "kmod"))
    `(procps ,(programs-of "procps"))
    `(psmisc ,(programs-of "psmisc"))
    `(iproute ,(programs-of "iproute2"))
    `(iw ,(programs-of "iw"))
    `(kbd ,(programs-of "kbd"))
    `(e2fsprogs ,(programs-of "e2fsprogs"))
    `(btrfs-progs ,(programs-of "btrfs-progs"))
    `(usbutils ,(programs-of "usbutils"))
    ;; For their udev rules, of which there are none here.
    `(lvm2 alsa-utils crda ,nothing)
    `(libcap ,(programs-of "libcap2-bin"))
    `(wireless-tools ,nothing))
  (replace-packages! '(gnu packages file-systems)
    ;; 'resize-file-system-service-type' names it whatever the file system.
    `(bcachefs-tools ,nothing))
  (replace-packages! '(gnu packages disk)
    `(dosfstools ,(programs-of "dosfstools"))
    `(parted ,(programs-of "parted")))
  (replace-packages! '(gnu packages pciutils)
    `(pciutils ,(programs-of "pciutils"))))

(define (replace-network-packages!)
  (replace-packages! '(gnu packages admin)
    `(inetutils ,(programs-of "inetutils-ping" "hostname"))
    `(net-base ,%net-base)
    `(isc-dhcp ,nothing))
  (replace-packages! '(gnu packages nss)
    `(nss-certs ,%certificates))
  (replace-packages! '(gnu packages wget)
    `(wget ,(programs-of "wget"))))

(define (replace-interactive-packages!)
  (replace-packages! '(gnu packages fonts)
    `(font-gnu-unifont ,%console-font))
  (replace-packages! '(gnu packages xorg)
    `(mkfontscale mkfontdir ,nothing))
  (replace-packages! '(gnu packages less)
    `(less ,(programs-of "less")))
  (replace-packages! '(gnu packages text-editors)
    `(nano ,(programs-of "nano"))
    `(mg ,nothing))
  (replace-packages! '(gnu packages nvi)
    `(nvi ,nothing))
  (replace-packages! '(gnu packages man)
    `(man-db ,nothing))
  (replace-packages! '(gnu packages texinfo)
    `(info-reader ,nothing)
    ;; Its 'install-info' makes a profile's directory of manuals.
    `(texinfo ,(recipe "mkdir -p $out/bin
printf '#!/bin/sh\\n' > $out/bin/install-info
chmod 555 $out/bin/install-info
"))))

(define (replace-program-packages!)
  "Replace the packages of programs."
  (replace-base-packages!)
  (replace-system-packages!)
  (replace-network-packages!)
  (replace-interactive-packages!))
