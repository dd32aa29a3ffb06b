;;; SPDX-License-Identifier: GPL-3.0-or-later

;;; Commentary:
;;;
;;; The evaluator's script, run with Guix's modules and ours, which are in DIRECTORY:
;;;
;;;   guix repl -- evaluator-main.scm DIRECTORY SOCKET [--log FILE] [--idle SECONDS]
;;;                                             [--memory BYTES] [--warm]
;;;   guix repl -- evaluator-main.scm DIRECTORY --once
;;;
;;; The first form serves clients at SOCKET and prints "ready" when it does, with --warm
;;; not before its caches are filled; the second one answers the request on its standard
;;; input.
;;;
;;; Code:

(eval-when (expand load eval)
  (define %directory
    (canonicalize-path (cadr (program-arguments))))

  ;; Before ours: what they add goes to the same place.
  ((@ (guix describe) append-channels-to-load-path!))

  (define (second directory path)
    "Return PATH with DIRECTORY as the second one: Guix takes what is first for itself, and
looks up its own modules again and again."
    (if (null? path)
        (list directory)
        (cons* (car path) directory (delete directory (cdr path)))))

  ;; Other versions of our modules, in a channel or the user's profile, are not for us, nor
  ;; are ours as they were compiled for another Guix.
  (set! %load-path (second %directory %load-path))
  (set! %load-compiled-path
        (filter (lambda (directory)
                  (not (file-exists? (string-append directory "/pyguixvm.go"))))
                %load-compiled-path)))

(use-modules (pyguixvm evaluator compilation))

(define %compiled
  (compiled-directory %directory))

(define %from-source?
  ;; Is what we load from now on interpreted?
  (not (compiled? %directory %compiled)))

(set! %load-compiled-path (second %compiled %load-compiled-path))

;; The answer to a single request needs no garbage collected, nor does what is
;; loaded for it.
(use-modules (pyguixvm evaluator process))

(when (member "--once" (program-arguments))
  (spare-collections))

(use-modules (pyguixvm evaluator request)
             (pyguixvm evaluator server)
             (pyguixvm evaluator successor)
             (guix diagnostics)
             (ice-9 getopt-long)
             (ice-9 match)
             (ice-9 rdelim))

(define %grammar
  '((once)
    (log    (value #t))
    (idle   (value #t))
    (memory (value #t))
    (warm)))

(define (answer-once)
  "Answer the request on standard input on standard output, where nothing else
may appear: what the configuration prints goes to standard error."
  (let ((result (dup->outport 1)))
    (dup2 2 1)
    (set-port-encoding! (current-input-port) "UTF-8")
    (set-port-encoding! result "UTF-8")
    (display (match (parse-request (read-line))
               (#f      (failure-line 'exception "malformed request"))
               (request (answer request)))
             result)
    (force-output (current-output-port))
    (force-output result)
    (primitive-_exit 0)))

(define (detach log)
  "Tell our parent that we are ready, then let go of it."
  (display "ready\n")
  (force-output)
  (redirect "/dev/null" O_RDWR 0 1)
  (redirect log (logior O_WRONLY O_CREAT O_APPEND) 2)
  (false-if-exception (setsid))
  (chdir "/"))

(define (be-succeeded reachable? stop)
  "Have our modules compiled, and if the evaluator is REACHABLE? still, one that has loaded
them so take its place.  STOP ends it, and returns #f if it has ended."
  (await-end (fork (lambda ()
                     (nice 10)
                     (compile-modules %directory %compiled))))
  (when (and (compiled? %directory %compiled)
             (reachable?))
    (let ((successor (start-successor "--warm")))
      (when successor
        (unless (stop)
          (kill-group successor))))))

(define (main args)
  (let* ((options (getopt-long args %grammar))
         (number  (lambda (name default)
                    (string->number
                     (option-ref options name (number->string default))))))
    (stay-single-threaded)
    ;; Guix's messages are not about 'guix repl'.
    (program-name #f)
    (if (option-ref options 'once #f)
        (answer-once)
        (match (option-ref options '() '())
          ((_ socket)
           (serve socket
                  #:idle-seconds (number 'idle 1800)
                  #:memory-limit (number 'memory (* 4 (expt 1024 3)))
                  #:warm-first? (option-ref options 'warm #f)
                  #:at-leisure (and %from-source? be-succeeded)
                  #:ready (lambda ()
                            (detach (option-ref options 'log "/dev/null")))))
          (_
           (display "usage: evaluator-main.scm DIRECTORY (SOCKET | --once)\n"
                    (current-error-port))
           (exit 2))))))

(main (program-arguments))
