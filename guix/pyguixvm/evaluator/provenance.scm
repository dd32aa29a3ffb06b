;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm evaluator provenance)
  #:use-module (pyguixvm json)
  #:use-module (git)
  #:use-module (guix channels)
  #:use-module (guix describe)
  #:use-module (guix git)
  #:use-module (ice-9 match)
  #:use-module (srfi srfi-1)
  #:export (provenance->json
            relations->json))

;;; Commentary:
;;;
;;; Of which commits what is evaluated is made: those of Guix's channels, and that of the
;;; repository in which the configuration lies; and whether one is older than another.
;;;
;;; Code:

(define (channel->json channel)
  (object ("name"   (symbol->string (channel-name channel)))
          ("url"    (channel-url channel))
          ("branch" (channel-branch channel))
          ("commit" (channel-commit channel))))


;;;
;;; The configuration's own repository.
;;;

(define (call-with-repository file proc)
  "Return what PROC makes of the repository in which FILE lies; #f if there is none, or one
that this user should not trust."
  (catch 'git-error
    (lambda ()
      (let* ((directory  (repository-discover (dirname file)))
             (repository (repository-open directory))
             (result     (proc repository)))
        (repository-close! repository)
        result))
    (const #f)))

(define (head-commit repository)
  (oid->string (reference-target (repository-head repository))))

(define (origin repository)
  "Return the URL that REPOSITORY was cloned from, or #f."
  (catch 'git-error
    (lambda ()
      (remote-url (remote-lookup repository "origin")))
    (const #f)))

(define (modified? repository)
  "Does a file of REPOSITORY differ from its last commit?"
  (positive? (status-list-entry-count
              (status-list-new repository
                               (make-status-options STATUS-SHOW-INDEX-AND-WORKDIR
                                                    STATUS-FLAG-EXCLUDE-SUBMODULES)))))

(define (checkout->json repository)
  `(,@(object ("directory" (repository-working-directory repository))
              ("url"       (origin repository))
              ("commit"    (head-commit repository)))
    ("modified" . ,(modified? repository))))

(define (provenance->json file)
  "Return the JSON of what FILE, the absolute name of a configuration, is evaluated with."
  (let ((checkout (call-with-repository file checkout->json)))
    (object ("channels" (list->vector (map channel->json (current-channels))))
            ("configuration" checkout))))


;;;
;;; Older and newer.
;;;

(define (channel-relation name old)
  "Return how the commit OLD of the channel called NAME relates to the one that is used:
see 'commit-relation'; 'unknown if its repository cannot be had, #f if there is no such
channel any more."
  (define channel
    (find (lambda (channel)
            (string=? name (symbol->string (channel-name channel))))
          (current-channels)))

  (and channel
       (if (string=? old (channel-commit channel))
           'self
           (catch 'git-error
             (lambda ()
               (call-with-values
                   (lambda ()
                     (update-cached-checkout (channel-url channel)
                                             #:ref `(commit . ,(channel-commit channel))
                                             #:starting-commit old
                                             #:check-out? #f))
                 (lambda (directory commit relation)
                   relation)))
             (const 'unknown)))))

(define (checkout-relation file old)
  "Return how the commit OLD relates to the last one of the repository of FILE; 'unknown if
it is not there, #f if there is no repository."
  (call-with-repository file
    (lambda (repository)
      (let ((new (commit-lookup repository
                                (string->oid (head-commit repository)))))
        (match (catch 'git-error
                 (lambda ()
                   (commit-lookup repository (string->oid old)))
                 (const #f))
          (#f  'unknown)
          (old (commit-relation old new)))))))

(define (relations->json file channels commits)
  "Return the JSON of how earlier commits relate to those that are used now: CHANNELS lists
vectors of the name of a channel and a commit; COMMITS those of the repository of FILE."
  (define (relation commit relation)
    (and relation
         `(("commit" . ,commit)
           ("relation" . ,(symbol->string relation)))))

  `(("channels"
     . ,(list->vector
         (filter-map (match-lambda
                       (#(name commit)
                        (and=> (relation commit (channel-relation name commit))
                               (lambda (object)
                                 (acons "name" name object)))))
                     channels)))
    ("configuration"
     . ,(list->vector
         (filter-map (lambda (commit)
                       (relation commit (checkout-relation file commit)))
                     commits)))))
