;;; SPDX-License-Identifier: GPL-3.0-or-later

;; Store items that are copied from a disk into a store.

(use-modules (pyguixvm build items)
             (guix build utils)
             (guix utils)
             (ice-9 ftw)
             (ice-9 textual-ports)
             (srfi srfi-1)
             (srfi srfi-64))

(define (write-file file text)
  (mkdir-p (dirname file))
  (call-with-output-file file (lambda (port) (display text port))))

(define (read-file file)
  (call-with-input-file file get-string-all))

(define (names directory)
  (lset-difference string=? (scandir directory) '("." "..")))

(define (call-with-disk proc)
  "Call PROC with a disk that has two items, and a store that has one of them and what a
killed copy left of the other."
  (call-with-temporary-directory
   (lambda (directory)
     (let ((disk (string-append directory "/disk"))
           (store (string-append directory "/store")))
       (write-file (string-append disk "/a-new/bin/x") "new")
       (chmod (string-append disk "/a-new/bin/x") #o555)
       (symlink "bin/x" (string-append disk "/a-new/link"))
       (write-file (string-append disk "/b-there") "other")
       (write-file (string-append store "/b-there") "there")
       (write-file (string-append store "/.unfinished-a-new/bin/half") "")
       (proc disk store)))))

(test-begin "items")

(test-equal "what the store lacks comes, and nothing else changes"
  '(("a-new") ("a-new" "b-there") "there" "new" "bin/x" #o555 ("bin" "link"))
  (call-with-disk
   (lambda (disk store)
     (let ((copied (copy-items disk store)))
       (list copied (names store)
             (read-file (string-append store "/b-there"))
             (read-file (string-append store "/a-new/bin/x"))
             (readlink (string-append store "/a-new/link"))
             (stat:perms (stat (string-append store "/a-new/bin/x")))
             (names (string-append store "/a-new")))))))

(test-equal "what a killed copy left is gone"
  '("x")
  (call-with-disk
   (lambda (disk store)
     (copy-items disk store)
     (names (string-append store "/a-new/bin")))))

(test-equal "once more, there is nothing to do"
  '()
  (call-with-disk
   (lambda (disk store)
     (copy-items disk store)
     (copy-items disk store))))

(test-end "items")
