;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm evaluator successor)
  #:use-module (pyguixvm evaluator process)
  #:use-module (ice-9 match)
  #:use-module (ice-9 rdelim)
  #:use-module (ice-9 textual-ports)
  #:export (start-successor))

;;; Commentary:
;;;
;;; Another evaluator in our place: who has loaded our modules from source goes on
;;; interpreting them, also when they are there in compiled form.
;;;
;;; Code:

(define (our-command)
  "Return the program that this process runs, and its arguments with the name of that."
  (values (readlink "/proc/self/exe")
          (string-split (string-trim-right (call-with-input-file "/proc/self/cmdline"
                                             get-string-all)
                                           #\nul)
                        #\nul)))

(define (start-successor . options)
  "Run in a new process what this one runs, with OPTIONS added.  Return its PID once it
says that it is ready, or #f if it ends before."
  (match (pipe)
    ((input . output)
     (let ((pid (fork
                 (lambda ()
                   (redirect "/dev/null" O_RDONLY 0)
                   (dup2 (fileno output) 1)
                   (call-with-values our-command
                     (lambda (program arguments)
                       (apply execle program (environ)
                              (append arguments options))))))))
       (close-port output)
       (let ((line (read-line input)))
         (close-port input)
         (and (equal? "ready" line)
              pid))))))
