;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm evaluator freshness)
  #:use-module (pyguixvm evaluator guix)
  #:use-module (guix store)
  #:use-module (ice-9 match)
  #:use-module (srfi srfi-1)
  #:use-module (srfi srfi-9)
  #:use-module (srfi srfi-26)
  #:export (observe-searches!
            note-used-files!
            sooner-searched
            why-unfit))

;;; Commentary:
;;;
;;; Whether what the evaluator has loaded, and lowered, is still made of the files that a
;;; process that begins now would find.  What is in the store never changes, but Guix may be
;;; used from a checkout, modules may come from GUIX_PACKAGE_PATH, and a directory given by
;;; "-L", or added to the load path by a configuration, may have other versions of modules:
;;; of some that 'guix system' would not have loaded before it looks there, and of those
;;; that gexps name, for programs in guests and builds, which nobody loads here.
;;;
;;; Code:

(define-record-type <used>
  (make-used name file state)
  used?
  (name  used-name)                    ;relative to the load path
  (file  used-file)                    ;absolute file name
  (state used-state))                  ;what 'file-state' returns | #f: in the store

(define %used
  ;; The files that this process has used so far: file name -> <used>.
  (make-hash-table))

(define %components
  ;; The first components of their names, as keys.
  (make-hash-table))

(define %found
  ;; The files that Guix has found so far on a path, as it does for the modules of gexps,
  ;; and for patches: NAME -> file name.
  (make-hash-table))

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
  "Return the state of FILE as it was when it was used; 'unknown if it was written since
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

(define observe-searches!
  (let ((replaced? #f))
    (lambda ()
      "From now on, take note of which files this process and its children find on a path."
      (unless replaced?
        (set! replaced? #t)
        (replace! '(guile) 'search-path
                  (lambda (search)
                    (lambda (path name . options)
                      (let ((file (apply search path name options)))
                        (when file
                          (hash-set! %found name file))
                        file))))))))

(define (first-component name)
  (string-take name (or (string-index name #\/) (string-length name))))

(define (note-used! name file)
  "Remember that FILE, found as NAME, was used, as it is."
  (unless (hash-ref %used file)
    (hash-set! %components (first-component name) #t)
    (hash-set! %used file
               (make-used name file
                          (and (not (store-path? file))
                               (settled-state file))))))

(define (note-used-files!)
  "Remember which files this process has used: those of the modules that it has loaded, and
those that it has found since 'observe-searches!'."
  (for-each (lambda (module)
              (let ((name (module-file-name module)))
                (and=> (search-path %load-path name)
                       (cut note-used! name <>))))
            (module-names (resolve-module '() #f)))
  (hash-for-each note-used! %found))

(define (any-used? proc)
  "Does PROC return true for any of the files that this process has used?"
  (any proc (hash-map->list (lambda (_ used) used) %used)))

(define (outdated? used)
  (let ((state (used-state used)))
    (and state
         (not (equal? state (file-state (used-file used)))))))

(define (another-version? used)
  "Does the load path now lead to another file than USED?"
  (let ((file (search-path %load-path (used-name used))))
    (not (and file
              (or (string=? file (used-file used))
                  (string=? (canonicalize-path file)
                            (canonicalize-path (used-file used))))))))

(define (shadowed? directory)
  "Does DIRECTORY, of the load path, have another version of a file that was used?"
  (define (here? name)
    (file-exists? (string-append directory "/" name)))

  (let ((components (filter here?
                            (hash-map->list (lambda (component _) component)
                                            %components))))
    (and (pair? components)
         (any-used? (lambda (used)
                      (and (member (first-component (used-name used)) components)
                           (here? (used-name used))
                           (another-version? used)))))))

(define (sooner-searched before)
  "Return the directories of the load path that are searched sooner than in BEFORE, an
earlier one."
  (if (equal? before (filter (cut member <> before) %load-path))
      (lset-difference string=? %load-path before)
      %load-path))

(define (why-unfit directories)
  "Return why what this process has used is not what a new one would use with DIRECTORIES
on its load path: 'outdated, 'shadowed, or #f."
  (cond ((any-used? outdated?) 'outdated)
        ((any shadowed? directories) 'shadowed)
        (else #f)))
