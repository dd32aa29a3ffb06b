;;; SPDX-License-Identifier: GPL-3.0-or-later

(use-modules (tests configuration)
             (pyguixvm evaluator evaluation)
             (guix utils)
             (ice-9 binary-ports)
             (ice-9 match)
             (rnrs bytevectors)
             (srfi srfi-26)
             (srfi srfi-64))

(define %qcow2
  (u8-list->bytevector (append '(#x51 #x46 #x49 #xfb) (make-list 508 0))))

(define (qcow2-with offset byte)
  "Return the header of an image of version 3, which has BYTE at OFFSET."
  (let ((header (bytevector-copy %qcow2)))
    (bytevector-u8-set! header 7 3)
    (bytevector-u8-set! header offset byte)
    header))

(define %raw
  (u8-list->bytevector (append (make-list 510 0) '(#x55 #xaa) (make-list 512 0))))

(define* (evaluate-image bytes #:key (clauses "") (file "disk"))
  "Evaluate a machine with an image of BYTES, or none when it is #f."
  (call-with-configuration
   (format #f "(virtual-machine (name \"box\") ~a\n (image (local-image ~s)))"
           clauses file)
   (lambda (config)
     (when bytes
       (call-with-output-file (string-append (dirname config) "/disk")
         (lambda (port)
           (put-bytevector port bytes))
         #:binary #t))
     (let ((json (evaluate config #:want 'images)))
       (if (assoc "error" json)
           (error-of json)
           (let ((image (ref json "deployment" "machines" 0 "image")))
             ;; The directory is another one each time.
             (list (ref image "kind") (ref image "format") (ref image "size")
                   (string=? (ref image "path")
                             (string-append (dirname (canonicalize-path config))
                                            "/disk"))
                   (integer? (ref image "modified")))))))))

(test-begin "local images")

(test-equal "qcow2, beside the configuration"
  '("local-image" "qcow2" 512 #t #t)
  (evaluate-image %qcow2))

(test-equal "raw"
  '("local-image" "raw" 1024 #t #t)
  (evaluate-image %raw))

(for-each
 (match-lambda
   ((name bytes words)
    (test-assert name
      (match (evaluate-image bytes)
        (("validation" "3:8" message)
         (string-contains message words))))))
 `(("missing" #f "No such file or directory")
   ("empty" #vu8() "neither a qcow2 image nor a raw disk")
   ("text" ,(string->utf8 "not a disk") "neither a qcow2 image nor a raw disk")
   ("a backing file" ,(qcow2-with 15 104) "names another file")
   ("an external data file" ,(qcow2-with 79 4) "names another file")
   ("no boot sector" ,(make-bytevector 1024 0) "neither a qcow2 image")))

(test-assert "a directory"
  (match (evaluate-image #f #:file "/")
    (("validation" "3:8" message)
     (string-contains message "no regular file"))))

(test-assert "kernel arguments cannot be added"
  (match (evaluate-image %raw
                         #:clauses "(libvirt-domain (kernel-arguments '(\"a\")))")
    (("validation" "2:64" message)
     (string-contains message "cannot be added"))))

(define %digest
  (make-string 64 #\a))

(test-equal "one that is fetched"
  `("remote-image" "https://host/disk.img" ,%digest "raw")
  (let ((image (ref (evaluate-text (format #f "(virtual-machine (name \"box\")
  (image (remote-image (url \"https://host/disk.img\") (sha256 ~s) (format \"raw\"))))"
                                           %digest))
                    "deployment" "machines" 0 "image")))
    (map (cut ref image <>) '("kind" "url" "sha256" "format"))))

(test-assert "a name is needed"
  (match (error-of (evaluate-text "(virtual-machine (image (local-image \"/bin/sh\")))"))
    ((kind place message) (string=? kind "validation"))))

(test-end "local images")
