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
  #:use-module (srfi srfi-26)
  #:export (serve))

;;; Commentary:
;;;
;;; The evaluator that stays.  It has Guix loaded and its caches filled, and does
;;; nothing but fork: no configuration is ever loaded in it, so it stays clean.  To fork a
;;; process of its size takes a while.  So there is always a monitor, with a worker, that
;;; waits for the next client, and is followed by another one as soon as it has one.
;;;
;;; It has no signal handlers: Guile would run a thread for them, and threads do
;;; not survive a fork.
;;;
;;; Code:

(define-record-type <monitor>
  (make-monitor pid port leash)
  monitor?
  (pid   monitor-pid)
  (port  monitor-port)      ;readable when the monitor has news for us, or ended
  (leash monitor-leash))    ;a monitor without a client ends when this is closed


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
    ;; Of those who wait for a client, one is the first.
    (fcntl socket F_SETFL (logior O_NONBLOCK (fcntl socket F_GETFL)))
    (rename-file temporary file)
    socket))

(define (remove-socket file identity)
  "Remove FILE if it is still the one known by IDENTITY."
  (when (equal? identity (inode file))
    (false-if-exception (delete-file file))))


;;;
;;; Clients.
;;;

(define (start-monitor proc)
  "Return a new <monitor>: a process that calls PROC with a procedure by which it can tell
us a piece of news, a character, and with a port that is readable when we let it go or are
gone."
  (match (list (pipe) (pipe))
    (((news . telling) (leash . holding))
     (let ((pid (fork
                 (lambda ()
                   (close-port news)
                   (close-port holding)
                   (proc (lambda (piece)
                           (write-char piece telling)
                           (force-output telling))
                         leash)))))
       (close-port telling)
       (close-port leash)
       (make-monitor pid news holding)))))

(define %served #\c)                              ;it has a client
(define %stop   #\s)                              ;the evaluator is to end

(define (let-go monitor)
  "Have MONITOR end unless it has a client."
  (close-port (monitor-leash monitor)))

(define (accept-client server leash)
  "Return the socket of the next client of this user at SERVER, or #f when LEASH is
readable before there is one."
  (match (readable (list server leash) 3600)
    ((? (cut memq leash <>)) #f)
    (() (accept-client server leash))
    (_
     ;; Another monitor may have been sooner.
     (match (false-if-exception (accept server))
       ((client . _)
        (if (eqv? (getuid) (peer-uid client))
            client
            (begin
              (close-port client)
              (accept-client server leash))))
       (_ (accept-client server leash))))))

(define (await-client server memory-limit warm forget)
  "Return a new <monitor> that serves the next client at SERVER, by a worker that inherits
the caches of WARM, a connection to the store or #f.  FORGET is called when we are to stop:
from then on nobody reaches us."
  (start-monitor
   (lambda (tell leash)
     (let ((worker (start-worker #:memory-limit memory-limit
                                 #:prepare (if warm (adopt-caches warm) (const #t))
                                 #:unfit why-unfit
                                 #:close-others (lambda ()
                                                  (close-port server)
                                                  (close-port leash)))))
       (match (accept-client server leash)
         (#f (dismiss-worker worker))
         (client
          (close-port server)
          (tell %served)
          (attend client worker
                  (lambda ()
                    (forget)
                    (tell %stop)))))))))

(define (news-of monitor)
  "Return what MONITOR, whose port is readable, tells; at its end, take leave of it and
return the end-of-file object."
  (let ((piece (read-char (monitor-port monitor))))
    (when (eof-object? piece)
      (close-port (monitor-port monitor))
      (close-port (monitor-leash monitor))
      (waitpid (monitor-pid monitor)))
    piece))


;;;
;;; The evaluator.
;;;

(define (warm-up-or-not)
  "Return a warm connection to the store, or 'failed, for instance without a daemon."
  (catch #t
    warm-up
    (lambda (key . args)
      (false-if-exception (print-exception (current-error-port) #f key args))
      'failed)))

(define (warm-connection warm)
  "Return the connection to the store in WARM, or #f when the attempt to warm up has
failed or is yet to be made."
  (and (store-connection? warm) warm))

(define* (serve file #:key (idle-seconds 1800) (memory-limit (* 4 (expt 1024 3)))
                warm-first? (ready (const #t)) at-leisure)
  "Accept clients at the socket FILE until one wants us to stop or none came for
IDLE-SECONDS.  Each worker may use MEMORY-LIMIT bytes.  With WARM-FIRST?, nobody is served
before the caches are filled.  READY is called when clients can connect.  AT-LEISURE, unless
it is #f, is called in a process of its own when there is nothing else to do, with a
procedure that tells whether clients reach us still, and one that ends us, which returns #f
if we have ended."
  (let* ((warm     (and warm-first? (warm-up-or-not)))
         (server   (listen-at file))
         (identity (inode file)))
    (define (seconds-to-wait busy warm served? since)
      ;; Warm up once the first client is served, who would otherwise compete with
      ;; us for the processor, or when none comes.
      (cond ((pair? busy) idle-seconds)
            ((not warm) (if served? 0 1))
            (else (max 0 (- (+ since idle-seconds) (monotonic-seconds))))))

    (define (forget)
      (remove-socket file identity))

    (define (await warm)
      (await-client server memory-limit (warm-connection warm) forget))

    (define (start-leisure)
      (start-monitor (lambda (tell leash)
                       (define (there?)
                         (null? (readable (list leash) 0)))

                       (close-port server)
                       (at-leisure (lambda ()
                                     (and (there?) (equal? identity (inode file))))
                                   (lambda ()
                                     (and (there?) (begin (tell %stop) #t)))))))

    ;; NEXT is the monitor that waits for a client, BUSY are the others.  WARM is #f, an open
    ;; connection to the store, or 'failed.  SINCE is when the last client left.
    (define (loop next busy warm served? since)
      (define connection
        (and=> (warm-connection warm) store-connection-socket))

      (let* ((monitors (cons next busy))
             (ports    (readable `(,@(if connection (list connection) '())
                                   ,@(map monitor-port monitors))
                                 (seconds-to-wait busy warm served? since)))
             (news     (filter-map (lambda (monitor)
                                     (and (memq (monitor-port monitor) ports)
                                          (cons monitor (news-of monitor))))
                                   monitors))
             (ended    (filter-map (match-lambda
                                     ((monitor . (? eof-object?)) monitor)
                                     (_ #f))
                                   news)))
        (cond ((any (match-lambda ((_ . piece) (eqv? %stop piece))) news)
               (let-go next))
              ((and connection (memq connection ports))
               ;; The daemon is gone, and with it the protection of what the
               ;; caches name.
               (close-connection warm)
               (let-go next)
               (loop (await #f) (lset-difference eq? monitors ended) #f served? since))
              ((assq next news)
               ;; To warm up may succeed now if it failed before.
               (let ((warm (warm-connection warm)))
                 (loop (await warm) (lset-difference eq? monitors ended) warm #t since)))
              ((pair? news)
               (loop next (lset-difference eq? busy ended) warm served?
                     (if (null? ended) since (monotonic-seconds))))
              ((pair? busy)
               (loop next busy warm served? since))
              ((not warm)
               (let ((warm (warm-up-or-not)))
                 (note-used-files!)
                 ;; What it has inherited is cold.  Before anyone is forked who would
                 ;; hold its leash, too.
                 (let-go next)
                 (let ((busy (if at-leisure (list next (start-leisure)) (list next))))
                   (loop (await warm) busy warm served? (monotonic-seconds)))))
              ((>= (monotonic-seconds) (+ since idle-seconds))
               (let-go next))
              (else
               (loop next busy warm served? since)))))

    (observe-searches!)
    (note-used-files!)
    (let ((next (await warm)))
      (ready)
      (loop next '() warm #f (monotonic-seconds)))
    (forget)
    (close-port server)))
