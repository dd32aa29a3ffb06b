;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm evaluator process)
  #:use-module (ice-9 binary-ports)
  #:use-module (ice-9 match)
  #:use-module (rnrs bytevectors)
  #:use-module (system foreign)
  #:export (fork
            kill-group
            await-end
            wait-for
            status->string
            redirect
            peer-uid
            read-available
            readable
            monotonic-seconds
            spare-collections
            stay-single-threaded))

;;; Commentary:
;;;
;;; Processes, descriptors and sockets, as far as Guile does not have them so.
;;;
;;; Code:

(define (fork thunk)
  "Run THUNK in a child process, the leader of a process group of its own, and
return its PID.  The child ends with THUNK, without running anything of its
parent's."
  (force-output (current-output-port))
  (force-output (current-error-port))
  (match (primitive-fork)
    (0
     (catch #t
       (lambda ()
         (setpgid 0 0)
         (thunk))
       (lambda (key . args)
         (false-if-exception
          (print-exception (current-error-port) #f key args))))
     (false-if-exception (force-output (current-error-port)))
     (primitive-_exit 0))
    (pid
     ;; Whoever comes first: a group must exist before it can be killed.
     (false-if-exception (setpgid pid pid))
     pid)))

(define (kill-group pid)
  "Kill the process group PID."
  (false-if-exception (kill (- pid) SIGKILL))
  (false-if-exception (kill pid SIGKILL)))

(define (await-end pid)
  "Take leave of PID, a child of ours that is ending, unless that was done already."
  (false-if-exception (waitpid pid)))

(define (wait-for pid)
  "Return the status of the child PID when it has ended, else #f.  Do not wait."
  (match (waitpid pid WNOHANG)
    ((0 . _) #f)
    ((_ . status) status)))

(define (status->string status)
  "Return what STATUS, as 'waitpid' returns it, says."
  (cond ((status:term-sig status)
         => (lambda (signal) (format #f "signal ~a" signal)))
        (else
         (format #f "exit status ~a" (status:exit-val status)))))

(define (redirect file flags . descriptors)
  "Open FILE with FLAGS as each of DESCRIPTORS."
  (let ((descriptor (open-fdes file flags)))
    (for-each (lambda (target)
                (unless (= descriptor target)
                  (dup2 descriptor target)))
              descriptors)
    (unless (memv descriptor descriptors)
      (close-fdes descriptor))))

(define SOL_SOCKET 1)
(define SO_PEERCRED 17)

(define getsockopt*
  (pointer->procedure int
                      (dynamic-func "getsockopt" (dynamic-link))
                      (list int int int '* '*)
                      #:return-errno? #t))

(define (peer-uid socket)
  "Return the user ID of the process at the other end of SOCKET, a UNIX socket, or
#f.  See unix(7), SO_PEERCRED."
  ;; struct ucred consists of the process, user and group IDs, 32 bits each.
  (let ((credentials (make-bytevector 12))
        (size        (make-bytevector 4)))
    (bytevector-u32-native-set! size 0 12)
    (and (zero? (getsockopt* (fileno socket) SOL_SOCKET SO_PEERCRED
                             (bytevector->pointer credentials)
                             (bytevector->pointer size)))
         (bytevector-u32-native-ref credentials 4))))

(define (readable ports seconds)
  "Return those of PORTS that can be read, waiting up to SECONDS for one."
  (let ((whole (inexact->exact (floor seconds))))
    (match (catch 'system-error
             (lambda ()
               (select ports '() '() whole
                       (inexact->exact (floor (* 1e6 (- seconds whole))))))
             (lambda args
               (if (= EINTR (system-error-errno args))
                   '(() () ())
                   (apply throw args))))
      ((ports _ _) ports))))

(define (read-available port)
  "Return the bytes that PORT, which is readable, has; none at its end."
  (catch 'system-error
    (lambda ()
      (let ((bytes (get-bytevector-some port)))
        (if (eof-object? bytes) #vu8() bytes)))
    (const #vu8())))                              ;ECONNRESET

(define (monotonic-seconds)
  "Return the seconds since this process began."
  (/ (get-internal-real-time) internal-time-units-per-second 1.))

(define (spare-collections)
  "Give this process, which will not live long, so much memory that it need not look
for garbage.  With all of Guix loaded, a collection takes as long as a good part of
an evaluation.  Pages that stay unused cost nothing."
  ;; A Guile without libgc has no such function, and less need for it.
  (false-if-exception
   ((pointer->procedure int (dynamic-func "GC_expand_hp" (dynamic-link))
                        (list size_t))
    (* 512 (expt 1024 2)))))

(define (stay-single-threaded)
  "Have Guile start no thread for finalizers: neither a fork nor a new environment
goes well with threads.  We close what we open ourselves."
  (false-if-exception
   ((pointer->procedure int
                        (dynamic-func "scm_set_automatic_finalization_enabled"
                                      (dynamic-link))
                        (list int))
    0)))
