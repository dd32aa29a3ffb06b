;;; SPDX-License-Identifier: GPL-3.0-or-later
;;;
;;; Print what the test bed's guix replaced, and what it did not find, as an
;;; association list; for 'guix repl -- FILE'.

(use-modules (ice-9 match)
             (ice-9 pretty-print)
             (testbed replacement))

(pretty-print
 `((replaced . ,(map (match-lambda
                       ((module variable _ name)
                        (list module variable name)))
                     (replaced-packages)))
   (missing . ,(missing-variables))))
