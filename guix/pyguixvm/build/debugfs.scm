;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm build debugfs)
  #:use-module (ice-9 binary-ports)
  #:use-module (ice-9 match)
  #:use-module (ice-9 rdelim)
  #:use-module (ice-9 regex)
  #:use-module (rnrs bytevectors)
  #:use-module (srfi srfi-1)
  #:export (tree-commands
            tellable?
            begin-change
            change))

;;; Commentary:
;;;
;;; Files are written into an ext file system from where they are, by debugfs(8): mke2fs(8)
;;; has the same code for that, but wants all of them in one directory, to which they would
;;; have to be copied first.
;;;
;;; It reads commands, a line each.  Here, they are lists of strings, the words of the line.
;;;
;;; Code:

(define %longest-line
  ;; The rest of a longer one would be read as another line: stdio's BUFSIZ, in any libc.
  1023)

(define %time-in-a-store
  "@1")

(define (command->line command)
  (match command
    ((verb words ...)
     (string-join
      (cons verb
            (map (lambda (word)
                   (string-append
                    "\"" (regexp-substitute/global #f "\"" word 'pre "\"\"" 'post) "\""))
                 words))))))

(define (tellable? command)
  "Does debugfs read COMMAND as it is meant?"
  (and (not (any (lambda (word)
                   (string-index word char-set:iso-control))
                 command))
       (<= (bytevector-length (string->utf8 (command->line command)))
           %longest-line)))

(define (here name)
  ;; Even where "<2>" would be an inode.
  (string-append "./" name))

(define (entries directory)
  (let ((stream (opendir directory)))
    (let loop ((found '()))
      (match (readdir stream)
        ((? eof-object?)
         (closedir stream)
         (sort found string<?))
        ((or "." "..")
         (loop found))
        (name
         (loop (cons name found)))))))

(define (tree-commands file name)
  "Return the commands that make NAME, in the current directory of debugfs, a copy of FILE
as a store has it: of root, and last modified at its beginning."
  (let ((status (lstat file)))
    (match (stat:type status)
      ('directory
       `(("mkdir" ,name)
         ("cd" ,(here name))
         ,@(append-map (lambda (entry)
                         (tree-commands (string-append file "/" entry) entry))
                       (entries file))
         ("cd" "..")
         ("sif" ,(here name) "mode" ,(format #f "0~o" (stat:mode status)))))
      ('regular
       `(("write" ,file ,name)))
      ('symlink
       `(("symlink" ,name ,(readlink file))))
      (type
       (error "a store has no such files" file type)))))

(define (used-inodes disk start)
  "Return how many inodes of the file system at START in DISK are in use."
  (call-with-port (open-file disk "rb")
    (lambda (port)
      (seek port (+ start 1024) SEEK_SET)
      (let ((superblock (get-bytevector-n port 1024)))
        (- (bytevector-u32-ref superblock 0 (endianness little))
           (bytevector-u32-ref superblock 16 (endianness little)))))))

(define (made-inodes commands)
  (count (match-lambda
           ((verb _ ...) (member verb '("mkdir" "symlink" "write"))))
         commands))

(define (scratch-file)
  "Return a port to a file without a name."
  ;; That of 'tmpfile' is in /tmp, whatever TMPDIR says.
  (let ((port (mkstemp "debugfs-XXXXXX" "w+")))
    (delete-file (port-filename port))
    port))

(define (begin-change disk start commands)
  "Have debugfs begin to carry out COMMANDS on the file system at START, in bytes, in DISK;
return a thunk that returns when that is done, and raises an error if it failed."
  (define expected
    (+ (used-inodes disk start) (made-inodes commands)))

  (define input (scratch-file))
  (define errors (scratch-file))

  (set-port-encoding! input "UTF-8")
  (for-each (lambda (command)
              (display (command->line command) input)
              (newline input))
            (cons `("set_current_time" ,%time-in-a-store) commands))
  (force-output input)
  (seek input 0 SEEK_SET)

  (let ((pid (call-with-output-file "/dev/null"
               (lambda (null)
                 (spawn "debugfs"
                        (list "debugfs" "-w" "-f" "-"
                              (format #f "~a?offset=~a" disk start))
                        #:input input #:output null #:error errors)))))
    (close-port input)
    (lambda ()
      (match (waitpid pid)
        ((_ . status)
         (seek errors 0 SEEK_SET)
         (let* ((version    (read-line errors))
                (complaints (read-string errors))
                (made       (used-inodes disk start)))
           (close-port errors)
           ;; Its exit status says nothing of single commands.
           (unless (and (eqv? 0 (status:exit-val status))
                        (string-null? complaints)
                        (= expected made))
             (error "debugfs failed to write files"
                    status version complaints expected made))))))))

(define (change disk start commands)
  "As 'begin-change', and return when that is done."
  ((begin-change disk start commands)))
