;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm evaluator request)
  #:use-module (pyguixvm evaluator configuration)
  #:use-module (pyguixvm evaluator dependencies)
  #:use-module (pyguixvm evaluator environment)
  #:use-module (pyguixvm evaluator evaluation)
  #:use-module (pyguixvm evaluator failure)
  #:use-module (pyguixvm evaluator freshness)
  #:use-module (pyguixvm evaluator guix)
  #:use-module (pyguixvm evaluator handling)
  #:use-module (pyguixvm evaluator json)
  #:use-module (pyguixvm evaluator options)
  #:use-module (pyguixvm evaluator provenance)
  #:use-module (pyguixvm evaluator realization)
  #:use-module ((pyguixvm evaluator store) #:select (failed-build-log))
  #:use-module (pyguixvm machine live)
  #:use-module (pyguixvm system guest)
  #:use-module (ice-9 control)
  #:use-module (ice-9 match)
  #:use-module (json)
  ;; Few want it, and it takes Guile-SSH.
  #:autoload   (pyguixvm machine in-place) (prepare-activation activate)
  #:export (parse-request
            request-command
            request-stderr
            request-time-limit

            failure-line
            json-line
            building-line
            outdated-line?
            answer))

;;; Commentary:
;;;
;;; Requests to the evaluator and their answers, each one line of JSON.
;;;
;;; Code:

(define (json-line json)
  "Return JSON as one line."
  (string-append (scm->json-string json) "\n"))

(define (failure-line kind message)
  "Return the answer that reports a failure of KIND that lies in no file."
  (json-line (failure->json (make-failure kind message #f #f))))

(define (parse-request line)
  "Return the request that LINE, a string, spells, or #f."
  (match (catch #t (lambda () (json-string->scm line)) (const #f))
    ((and ((_ . _) ...) request) request)
    (_ #f)))

(define* (request-ref request key #:optional default)
  (match (assoc-ref request key)
    ((or #f 'null) default)
    (value value)))

(define (request-command request)
  "Return the command of REQUEST: 'evaluate, 'realize, 'items, 'prepare-activation,
'activate, 'prepare-live, 'relations, 'ping, 'stop, or #f."
  (match (request-ref request "command")
    ("evaluate" 'evaluate)
    ("realize" 'realize)
    ("items" 'items)
    ("prepare-activation" 'prepare-activation)
    ("activate" 'activate)
    ("prepare-live" 'prepare-live)
    ("relations" 'relations)
    ("ping" 'ping)
    ("stop" 'stop)
    (_ #f)))

(define (request-stderr request)
  "Return the name of the FIFO for what the configuration prints, or #f."
  (request-ref request "stderr"))

(define (request-time-limit request)
  "Return how many seconds REQUEST may take."
  (request-ref request "time-limit" 600))

(define (request-variables request)
  "Return the environment of the client as strings, or #f."
  (match (request-ref request "environment")
    (((names . values) ...)
     (map (lambda (name value)
            (string-append name "=" value))
          names values))
    (_ #f)))

(define (want->symbol want)
  (match want
    ("metadata" 'metadata)
    ("systems" 'systems)
    ("derivations" 'derivations)
    ("images" 'images)
    (_ #f)))

(define* (answer-evaluate request #:key prepare)
  "Return the JSON of what the configuration in REQUEST declares.  PREPARE is called
with each new connection to the store."
  (define (strings key)
    (vector->list (or (request-ref request key) #())))

  (let ((config (request-ref request "config"))
        (want   (want->symbol (request-ref request "want" "metadata"))))
    (if (and config want)
        (begin
          (observe-dependencies!)
          (remember-module-closures!)
          (recognize-objects!)
          (let ((result (parameterize ((%sharing (request-ref request "sharing"
                                                              (%sharing))))
                          (evaluate config
                                    #:want want
                                    #:names (strings "machines")
                                    #:tags (strings "tags")
                                    #:shared-store? (request-ref request
                                                                 "shared-store")
                                    #:build? (request-ref request "build" #f)
                                    #:prepare prepare))))
            (acons "dependencies" (list->vector (dependencies)) result)))
        (failure->json
         (make-failure 'exception "malformed request" #f #f)))))

(define (answer-activation proc request prepare)
  "Return the JSON of what PROC, 'prepare-activation' or 'activate', makes of REQUEST."
  (parameterize ((%sharing (request-ref request "sharing" (%sharing))))
    (proc (request-ref request "config")
          (request-ref request "machine")
          #:system (request-ref request "system")
          #:root-uuid (request-ref request "root-uuid")
          #:address (request-ref request "address")
          #:host-key (request-ref request "host-key")
          #:uuid (request-ref request "uuid")
          #:prepare prepare)))

(define (answer-live request prepare)
  "Return the JSON of what a running guest is to get that is to follow REQUEST."
  (remember-module-closures!)
  (recognize-objects!)
  (parameterize ((%sharing (request-ref request "sharing" (%sharing))))
    (prepare-live (request-ref request "config")
                  (request-ref request "machine")
                  #:system (request-ref request "system")
                  #:root-uuid (request-ref request "root-uuid")
                  #:known (request-ref request "known")
                  #:program (request-ref request "program")
                  #:prepare prepare)))

(define (do-work request prepare)
  "Return the JSON of the answer to REQUEST, which asks for work."
  (match (request-command request)
    ('evaluate
     (answer-evaluate request #:prepare prepare))
    ('realize
     (realize (vector->list (request-ref request "derivations"))
              (request-ref request "roots" '())))
    ('items
     (items-beyond (request-ref request "present")
                   (vector->list (request-ref request "wanted"))))
    ('prepare-activation
     (answer-activation prepare-activation request prepare))
    ('activate
     (answer-activation activate request prepare))
    ('prepare-live
     (answer-live request prepare))
    ('relations
     (relations->json (configuration-place (request-ref request "config"))
                      (vector->list (request-ref request "channels"))
                      (vector->list (request-ref request "commits"))))
    (_
     (failure->json
      (make-failure 'exception "malformed request" #f #f)))))

(define (unfit-line reason)
  "Return the answer of an evaluator that should not answer, for REASON, a symbol."
  (json-line `(("unfit" . ,(symbol->string reason)))))

(define building-line
  ;; What comes before an answer, as soon as Guix builds or fetches something for it.
  (json-line '(("building" . #t))))

(define (outdated-line? line)
  "Is LINE an answer because of which this evaluator has no use any more?"
  (string=? line (unfit-line 'outdated)))

(define (with-log json)
  "Return JSON, an answer, with the log of the build that failed, if it is about one."
  (match (and (assoc "error" json) (failed-build-log))
    (#f   json)
    (file (acons "log" file json))))

(define (answer-if-fit request prepare unfit)
  "Return the answer to REQUEST as a line.  PREPARE and UNFIT are as for 'answer': UNFIT is
called once more, if the configuration that was loaded has changed the load path."
  (define before %load-path)

  (let/ec return
    (define checked? #f)

    (define (check)
      (unless checked?
        (set! checked? #t)
        (match (sooner-searched before)
          (() #t)
          (directories
           (and=> (unfit directories) (compose return unfit-line))))))

    ;; Before anything is lowered, and in the end if nothing was.
    (define (prepare/checked store)
      (check)
      (expect-load-path!)
      (prepare store))

    (let ((json (do-work request prepare/checked)))
      (check)
      (json-line (with-log json)))))

(define* (answer request #:key (prepare (const #t)) (unfit (const #f)))
  "Return the answer to REQUEST, which asks for work, as a line.  This process takes the
client's environment, directory and load path, so it should not do anything else later.
PREPARE is called with each new connection to the store that an evaluation opens; UNFIT
with the directories that REQUEST adds to the load path: it returns a symbol that says
why another process has to answer, or #f."
  (define (answer/options directories)
    (match (unfit (append directories (adopt-load-path)))
      (#f     (answer-if-fit request prepare unfit))
      (reason (unfit-line reason))))

  (if (equal? %schema (request-ref request "schema"))
      (match (call-with-failure-handling
              (lambda ()
                (adopt-environment (request-variables request)
                                   (request-ref request "directory"))
                (call-with-build-options
                 (vector->list (request-ref request "options" #()))
                 answer/options)))
        ((? failure? failure) (json-line (with-log (failure->json failure))))
        (line line))
      (failure-line 'exception
                    (format #f "this evaluator speaks schema ~a" %schema))))
