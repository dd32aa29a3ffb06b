;;; SPDX-License-Identifier: GPL-3.0-or-later
;;;
;;; The Guix that pyguixvm is made for, version 1.5.0:
;;;
;;;   guix shell -m manifest.scm -- guix time-machine -C channels.scm -- vm deploy

(list (channel
       (name 'guix)
       (url "https://git.guix.gnu.org/guix.git")
       (branch "master")
       (commit "230aa373f315f247852ee07dff34146e9b480aec")
       (introduction
        (make-channel-introduction
         "9edb3f66fd807b096b48283debdcddccfea34bad"
         (openpgp-fingerprint
          "BBB0 2DDF 2CEA F6A8 0D1D  E643 A2A0 6DF2 A33A 54FA")))))
