;;; SPDX-License-Identifier: GPL-3.0-or-later

(use-modules (pyguixvm notation)
             (ice-9 match)
             (srfi srfi-64))

(test-begin "notation")

(for-each (match-lambda
            ((str bytes)
             (test-equal (string-append "size " str) bytes (string->size str))))
          `(("1" 1)
            ("512" 512)
            ("1K" 1024)
            ("512M" ,(* 512 1024 1024))
            ("2G" ,(expt 2 31))
            ("1.5G" ,(* 3 (expt 2 29)))
            ("10GiB" ,(* 10 (expt 2 30)))
            ("1T" ,(expt 2 40))
            ("1P" ,(expt 2 50))
            ;; Whether these are powers of 10 or of 1024 is anyone's guess.
            ("2GB" #f)
            ("2g" #f)
            ("0.3K" #f)                           ;no whole number of bytes
            ("2e5G" #f)
            ("-2G" #f)
            ("G" #f)
            ("" #f)
            ("2 G" #f)
            ("2G\n" #f)))

(for-each (match-lambda
            ((bytes str)
             (test-equal (string-append "written " str) str (size->string bytes))))
          `((1 "1")
            (1024 "1K")
            (1025 "1025")
            (,(expt 2 31) "2G")
            (,(* 3 (expt 2 29)) "1536M")))

(for-each (match-lambda
            ((str address)
             (test-equal (string-append "address " str)
               address (string->mac-address str))))
          '(("52:54:00:12:34:56" "52:54:00:12:34:56")
            ("52:54:00:AB:cd:EF" "52:54:00:ab:cd:ef")
            ("52:54:00:12:34" #f)
            ("52:54:00:12:34:56:78" #f)
            ("52-54-00-12-34-56" #f)
            ("52:54:00:12:34:5g" #f)
            ("5:54:00:12:34:56" #f)
            ("" #f)))

(test-assert "a derived address is an address of QEMU's"
  (string-prefix? "52:54:00:"
                  (string->mac-address (derived-mac-address "web" 0))))

;; A machine keeps its address, and so its lease, when pyguixvm is updated.
(test-equal "a derived address stays"
  "52:54:00:f3:92:8a" (derived-mac-address "web" 0))

(test-assert "another interface has another address"
  (not (string=? (derived-mac-address "web" 0) (derived-mac-address "web" 1))))

(test-assert "another machine has another address"
  (not (string=? (derived-mac-address "web" 0) (derived-mac-address "db" 0))))

(test-end "notation")
