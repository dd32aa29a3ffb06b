;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm evaluator freshness)
  #:use-module (guix store)
  #:use-module (ice-9 match)
  #:use-module (srfi srfi-1)
  #:use-module (srfi srfi-9)
  #:export (note-loaded-modules!
            why-unfit))

;;; Commentary:
;;;
;;; Whether what the evaluator has loaded is still what a process that begins now would
;;; load.  What is in the store never changes, but Guix may be used from a checkout, modules
;;; may come from GUIX_PACKAGE_PATH, and a directory given by "-L" may have other versions
;;; of modules that 'guix system' would not have loaded before it looks there.
;;;
;;; Code:

(define-record-type <loaded>
  (make-loaded name file state)
  loaded?
  (name  loaded-name)                  ;relative to the load path
  (file  loaded-file)                  ;absolute file name
  (state loaded-state))                ;what 'file-state' returns | #f: in the store

(define %loaded
  ;; The modules that this process has loaded, as far as they have files.
  '())

(define (now)
  "Return the seconds since the epoch."
  (match (gettimeofday)
    ((seconds . microseconds)
     (+ seconds (/ microseconds #e1e6)))))

(define %process-start
  (- (now) (/ (get-internal-real-time) internal-time-units-per-second)))

(define (file-state file)
  "Return what tells FILE from another version of it, or #f if it is gone."
  (and=> (stat file #f)
         (lambda (status)
           (list (stat:mtime status) (stat:mtimensec status)
                 (stat:size status) (stat:dev status) (stat:ino status)))))

(define (settled-state file)
  "Return the state of FILE as it was when it was loaded; 'unknown if it was written since
this process began."
  (match (file-state file)
    (#f #f)
    ((and state (seconds nanoseconds _ ...))
     (if (<= %process-start (+ seconds (/ nanoseconds #e1e9)) (now))
         'unknown
         state))))

(define (module-names module)
  "Return the names of the modules below MODULE."
  (hash-fold (lambda (_ submodule names)
               (append (module-names submodule)
                       (cons (module-name submodule) names)))
             '()
             (module-submodules module)))

(define (module-file-name name)
  (string-append (string-join (map symbol->string name) "/") ".scm"))

(define (note-loaded-modules!)
  "Remember which modules this process has loaded, and from which files."
  (define known
    (map loaded-file %loaded))

  (define (note name)
    (let* ((name (module-file-name name))
           (file (search-path %load-path name)))
      (and file
           (not (member file known))
           (make-loaded name file
                        (and (not (store-path? file))
                             (settled-state file))))))

  (set! %loaded
        (append (filter-map note (module-names (resolve-module '() #f)))
                %loaded)))

(define (outdated? loaded)
  (let ((state (loaded-state loaded)))
    (and state
         (not (equal? state (file-state (loaded-file loaded)))))))

(define (first-component name)
  (string-take name (or (string-index name #\/) (string-length name))))

(define (shadowed? directory)
  "Does DIRECTORY, of the load path, have another version of a module that is loaded?"
  (define (here? name)
    (file-exists? (string-append directory "/" name)))

  (let ((candidates (filter here?
                            (delete-duplicates
                             (map (compose first-component loaded-name) %loaded)))))
    (any (lambda (loaded)
           (and (member (first-component (loaded-name loaded)) candidates)
                (here? (loaded-name loaded))
                (not (string=? (canonicalize-path (loaded-file loaded))
                               (canonicalize-path
                                (search-path %load-path
                                             (loaded-name loaded)))))))
         %loaded)))

(define (why-unfit directories)
  "Return why what this process has loaded is not what a new one would load with
DIRECTORIES on its load path: 'outdated, 'shadowed, or #f."
  (cond ((any outdated? %loaded) 'outdated)
        ((any shadowed? directories) 'shadowed)
        (else #f)))
