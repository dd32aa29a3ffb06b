;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm evaluator monitor)
  #:use-module (pyguixvm evaluator process)
  #:use-module (pyguixvm evaluator request)
  #:use-module (pyguixvm evaluator store)
  #:use-module (ice-9 binary-ports)
  #:use-module (ice-9 match)
  #:use-module (rnrs bytevectors)
  #:use-module (srfi srfi-1)
  #:use-module (srfi srfi-9)
  #:use-module (srfi srfi-11)
  #:use-module (srfi srfi-26)
  #:export (start-worker
            dismiss-worker
            attend))

;;; Commentary:
;;;
;;; One client of the evaluator.  The monitor reads its request, has a worker
;;; evaluate it, and stays able to act whatever the configuration does: it ends the
;;; worker when the client is gone, when time is up, and when the answer is there.
;;; Both are there before the client is.
;;;
;;; Code:

(define %request-seconds
  ;; How long a client may take to send its request.
  10)

(define %newline (char->integer #\newline))

(define (bytevector-append first second)
  (let* ((size   (bytevector-length first))
         (result (make-bytevector (+ size (bytevector-length second)))))
    (bytevector-copy! first 0 result 0 size)
    (bytevector-copy! second 0 result size (bytevector-length second))
    result))

(define* (bytevector-slice bytes start #:optional (end (bytevector-length bytes)))
  (let ((result (make-bytevector (- end start))))
    (bytevector-copy! bytes start result 0 (- end start))
    result))

(define (bytevector-index bytes byte)
  "Return the index of the first BYTE in BYTES, or #f."
  (let loop ((index 0))
    (cond ((= index (bytevector-length bytes)) #f)
          ((= byte (bytevector-u8-ref bytes index)) index)
          (else (loop (+ 1 index))))))

(define (building-line? line)
  (string=? line building-line))

(define (ends-line? bytes)
  (let ((size (bytevector-length bytes)))
    (and (positive? size)
         (= %newline (bytevector-u8-ref bytes (- size 1))))))

(define* (receive-line port #:optional seconds)
  "Return the line that arrives on PORT, within SECONDS if they are given, or #f."
  (define deadline
    (and seconds (+ (monotonic-seconds) seconds)))

  (let loop ((received #vu8()))
    (let ((left (and deadline (- deadline (monotonic-seconds)))))
      (cond ((ends-line? received) (utf8->string received))
            ((and left
                  (or (<= left 0) (null? (readable (list port) left))))
             #f)
            (else
             (let ((bytes (read-available port)))
               (and (positive? (bytevector-length bytes))
                    (loop (bytevector-append received bytes)))))))))

(define (send-line port line)
  "Send LINE to PORT, where nobody may read any more."
  (false-if-exception
   (begin
     (put-bytevector port (string->utf8 line))
     (force-output port))))


;;;
;;; The worker.
;;;

(define-record-type <worker>
  (make-worker pid requests answers)
  worker?
  (pid      worker-pid)
  (requests worker-requests)                      ;port for the line it is to answer
  (answers  worker-answers))                      ;port with the lines it writes

(define (limit-memory bytes)
  (setrlimit 'as bytes bytes))

(define (work request result prepare unfit)
  "Do what REQUEST asks for and write the answer to the port RESULT."
  (define self (getpid))

  (redirect "/dev/null" O_RDONLY 0)
  (redirect (or (request-stderr request) "/dev/null") O_WRONLY 1 2)
  (define (write-line line)
    (put-bytevector result (string->utf8 line))
    (force-output result))

  (let ((line (parameterize ((%note-build (cut write-line building-line)))
                (answer request #:prepare prepare #:unfit unfit))))
    (force-output (current-output-port))
    (force-output (current-error-port))
    ;; A configuration that forks comes here twice.
    (when (= self (getpid))
      (write-line line))))

(define* (start-worker #:key memory-limit prepare unfit (close-others (const #t)))
  "Return a new <worker>: a process of at most MEMORY-LIMIT bytes that answers a single
request, with PREPARE and UNFIT as 'answer' does.  It waits for that, as to fork a process
with all of Guix takes a while.  It calls CLOSE-OTHERS first."
  (match (list (pipe) (pipe))
    (((requests . asking) (answers . answering))
     (let ((pid (fork
                 (lambda ()
                   (close-others)
                   (close-port asking)
                   (close-port answers)
                   (limit-memory memory-limit)
                   (spare-collections)
                   (match (receive-line requests)
                     (#f #t)                      ;nobody asked
                     (line
                      (close-port requests)
                      (work (parse-request line) answering prepare unfit)))))))
       (close-port requests)
       (close-port answering)
       (make-worker pid asking answers)))))

(define (send-request worker line)
  "Have WORKER answer LINE.  If it is gone, its status tells."
  (send-line (worker-requests worker) line))

(define (dismiss-worker worker)
  "Have WORKER end, which was asked nothing or is ending, and take leave of it."
  (false-if-exception (close-port (worker-requests worker)))
  (await-end (worker-pid worker)))

(define (death-line status)
  (failure-line 'exception
                (string-append "the configuration ended the evaluator ("
                               (status->string status) ")")))

(define (timeout-line seconds)
  (failure-line 'timeout
                (format #f "the evaluation took longer than ~a seconds" seconds)))

(define (split-lines bytes)
  "Return the lines in BYTES as strings, and what follows the last of them."
  (let loop ((lines '())
             (rest  bytes))
    (match (bytevector-index rest %newline)
      (#f (values (reverse lines) rest))
      (end
       (loop (cons (utf8->string (bytevector-slice rest 0 (+ 1 end))) lines)
             (bytevector-slice rest (+ 1 end)))))))

(define (supervise worker client seconds)
  "Return the line with the answer that WORKER writes within SECONDS, or one that says why
there is none, or #f as soon as CLIENT is gone.  CLIENT gets the lines before it; once Guix
builds something, there is no time limit."
  (define pid    (worker-pid worker))
  (define result (worker-answers worker))

  (let loop ((received #vu8())
             (deadline (+ (monotonic-seconds) seconds)))
    (let* ((left  (- deadline (monotonic-seconds)))
           ;; Wake up now and then: while a child of the worker keeps RESULT open,
           ;; its end does not tell that the worker died.
           (ports (readable (list client result) (max 0 (min left 1)))))
      (cond ((and (memq client ports)
                  (zero? (bytevector-length (read-available client))))
             #f)
            ((memq result ports)
             (let ((bytes (read-available result)))
               (if (zero? (bytevector-length bytes))
                   (death-line (cdr (waitpid pid)))
                   (let-values (((lines rest)
                                 (split-lines (bytevector-append received bytes))))
                     (for-each (cut send-line client <>)
                               (filter building-line? lines))
                     (or (find (negate building-line?) lines)
                         (loop rest (if (null? lines) deadline (inf))))))))
            ((wait-for pid) => death-line)
            ((<= left 0) (timeout-line seconds))
            (else (loop received deadline))))))

(define (answer-by-worker worker request line client stop)
  "Have WORKER answer LINE, which spells REQUEST, and send that to CLIENT."
  (send-request worker line)
  (let ((line (supervise worker client (request-time-limit request))))
    ;; Whatever the configuration started ends with it.
    (kill-group (worker-pid worker))
    (when line
      ;; Before the client, which comes again, could find us once more.
      (when (outdated-line? line)
        (stop))
      (send-line client line))))


;;;
;;; The client.
;;;

(define (attend client worker stop)
  "Serve CLIENT, a connected socket, by WORKER if there is something to do.  STOP is called
when the evaluator is to end."
  (setvbuf client 'block)                         ;sockets are not by themselves
  (let* ((line    (receive-line client %request-seconds))
         (request (and=> line parse-request)))
    (case (and request (request-command request))
      ((evaluate realize items prepare-activation activate prepare-live relations)
       (answer-by-worker worker request line client stop))
      ((ping)
       (send-line client (json-line `(("pong" . (("pid" . ,(getppid))))))))
      ((stop)
       (stop)
       (send-line client (json-line '(("stopped" . #t)))))
      (else
       (send-line client (failure-line 'exception "malformed request"))))
    (close-port client)
    ;; To let go of so much memory takes its time, which the client need not wait.
    (dismiss-worker worker)))
