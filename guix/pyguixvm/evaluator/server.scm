;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm evaluator server)
  #:use-module (pyguixvm evaluator cache)
  #:use-module (pyguixvm evaluator freshness)
  #:use-module (pyguixvm evaluator guix)
  #:use-module (pyguixvm evaluator monitor)
  #:use-module (pyguixvm evaluator process)
  #:use-module (guix store)
  #:use-module (ice-9 match)
  #:use-module (srfi srfi-1)
  #:use-module (srfi srfi-9)
  #:export (serve))

;;; Commentary:
;;;
;;; The evaluator that stays.  It has Guix loaded and its caches filled, and does
;;; nothing but accept clients and fork a monitor for each: no configuration is
;;; ever loaded in it, so it stays clean.
;;;
;;; It has no signal handlers: Guile would run a thread for them, and threads do
;;; not survive a fork.
;;;
;;; Code:

(define-record-type <monitor>
  (make-monitor pid port)
  monitor?
  (pid  monitor-pid)
  (port monitor-port))      ;readable when the monitor wants to stop us, or ended


;;;
;;; The socket.
;;;

(define (inode file)
  "Return what identifies FILE as long as it exists, or #f."
  (and=> (false-if-exception (lstat file))
         (lambda (status)
           (cons (stat:dev status) (stat:ino status)))))

(define (listen-at file)
  "Return a socket that listens at FILE, which only this user can connect to."
  ;; Renaming replaces what an evaluator that crashed has left.
  (let ((socket    (socket AF_UNIX SOCK_STREAM 0))
        (temporary (string-append file "." (number->string (getpid))))
        (mask      (umask #o177)))
    (bind socket AF_UNIX temporary)
    (umask mask)
    (listen socket 64)
    (rename-file temporary file)
    socket))

(define (remove-socket file identity)
  "Remove FILE if it is still the one known by IDENTITY."
  (when (equal? identity (inode file))
    (false-if-exception (delete-file file))))


;;;
;;; Clients.
;;;

(define (start-monitor server forget proc)
  "Return a new <monitor>: a process without SERVER, our socket, that calls PROC with
a procedure by which it can stop us: from then on nobody reaches us, for which FORGET is
called."
  (match (pipe)
    ((input . output)
     (let ((pid (fork
                 (lambda ()
                   (close-port server)
                   (close-port input)
                   (proc (lambda ()
                           (forget)
                           (display "stop" output)
                           (force-output output)))))))
       (close-port output)
       (make-monitor pid input)))))

(define (serve-client client memory-limit warm)
  "Return a procedure that serves CLIENT; WARM is a connection to the store, or #f,
whose caches its worker inherits."
  (lambda (stop)
    (attend client
            #:memory-limit memory-limit
            #:prepare (if warm (adopt-caches warm) (const #t))
            #:unfit why-unfit
            #:stop stop)))

(define (accept-client server)
  "Return the socket of the next client, or #f when it is another user's."
  (match (accept server)
    ((client . _)
     (if (eqv? (getuid) (peer-uid client))
         client
         (begin
           (close-port client)
           #f)))))

(define (stop-requested? monitor)
  "Does MONITOR, whose port is readable, want us to stop?"
  (char? (peek-char (monitor-port monitor))))

(define (dismiss monitor)
  (close-port (monitor-port monitor))
  (waitpid (monitor-pid monitor)))


;;;
;;; The evaluator.
;;;

(define (try-warm-up)
  "Return a warm connection to the store, or #f, for instance without a daemon."
  (catch #t
    warm-up
    (lambda (key . args)
      (false-if-exception (print-exception (current-error-port) #f key args))
      #f)))

(define (warm-connection warm)
  "Return the connection to the store in WARM, or #f when the attempt to warm up has
failed or is yet to be made."
  (and (store-connection? warm) warm))

(define* (serve file #:key (idle-seconds 1800) (memory-limit (* 4 (expt 1024 3)))
                (ready (const #t)) (at-leisure (const #t)))
  "Accept clients at the socket FILE until one wants us to stop or none came for
IDLE-SECONDS.  Each worker may use MEMORY-LIMIT bytes.  READY is called when clients
can connect.  AT-LEISURE is called in a process of its own when there is nothing else
to do."
  (let* ((server   (listen-at file))
         (identity (inode file)))
    (define (seconds-to-wait monitors warm served? since)
      ;; Warm up once the first client is served, who would otherwise compete with
      ;; us for the processor, or when none comes.
      (cond ((pair? monitors) idle-seconds)
            ((not warm) (if served? 0 1))
            (else (max 0 (- (+ since idle-seconds) (monotonic-seconds))))))

    (define (forget)
      (remove-socket file identity))

    (define (accept-one monitors warm)
      (match (accept-client server)
        (#f monitors)
        (client
         (let ((monitor (start-monitor server forget
                                       (serve-client client memory-limit
                                                     (warm-connection warm)))))
           (close-port client)
           (cons monitor monitors)))))

    (define (spend-leisure monitors)
      (cons (start-monitor server forget
                           (lambda (stop)
                             (nice 10)
                             (at-leisure)))
            monitors))

    ;; WARM is #f, an open connection to the store, or 'failed.  SINCE is when the
    ;; last client left.
    (define (loop monitors warm served? since)
      (let* ((connection (and=> (warm-connection warm) store-connection-socket))
             (ports      (readable `(,server
                                     ,@(if connection (list connection) '())
                                     ,@(map monitor-port monitors))
                                   (seconds-to-wait monitors warm served? since)))
             (ended      (filter (lambda (monitor)
                                   (memq (monitor-port monitor) ports))
                                 monitors))
             (stop?      (any stop-requested? ended))
             (monitors   (lset-difference eq? monitors ended))
             (since      (if (null? ended) since (monotonic-seconds))))
        (for-each dismiss ended)
        (cond (stop? 'stopped)
              ((and connection (memq connection ports))
               ;; The daemon is gone, and with it the protection of what the
               ;; caches name.
               (close-connection warm)
               (loop monitors #f served? since))
              ((memq server ports)
               ;; To warm up may succeed now if it failed before.
               (loop (accept-one monitors warm) (warm-connection warm) #t since))
              ((or (pair? monitors) (pair? ended))
               (loop monitors warm served? since))
              ((not warm)
               (let ((warm (or (try-warm-up) 'failed)))
                 (note-used-files!)
                 (loop (spend-leisure monitors) warm served?
                       (monotonic-seconds))))
              ((>= (monotonic-seconds) (+ since idle-seconds)) 'idle)
              (else
               (loop monitors warm served? since)))))

    (observe-searches!)
    (note-used-files!)
    (ready)
    (loop '() #f #f (monotonic-seconds))
    (forget)
    (close-port server)))
