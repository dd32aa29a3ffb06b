;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm evaluator load)
  #:use-module ((pyguixvm) #:select ())           ;loaded before any configuration
  #:use-module (pyguixvm diagnostics)
  #:use-module (pyguixvm evaluator configuration)
  #:use-module (pyguixvm evaluator failure)
  #:use-module (pyguixvm evaluator forms)
  #:use-module (pyguixvm evaluator handling)
  #:use-module (pyguixvm lint)
  #:use-module (pyguixvm machine)
  #:use-module ((gnu image) #:select (image?))
  #:use-module ((gnu machine)
                #:select (machine? machine-configuration machine-operating-system)
                #:prefix guix:)
  #:use-module (gnu system)
  #:use-module (guix ui)
  #:use-module (ice-9 format)
  #:use-module (ice-9 match)
  #:use-module (srfi srfi-1)
  #:use-module (srfi srfi-26)
  #:export (call-with-configuration
            load-configuration
            make-configuration-module
            select-machines))

;;; Commentary:
;;;
;;; Load a configuration as 'guix system' does, see 'load*' in (guix ui); but where
;;; that prints an error and exits, exceptions are left to the caller.  What its last
;;; expression may be, and which machines of it are asked for.
;;;
;;; Code:

(define %modules
  ;; What 'guix system' imports, and our interface.
  '((gnu system) (gnu services) (gnu system shadow) (pyguixvm)))

(define %expression-modules
  ;; What Guix's commands import for an expression, see 'read/eval' in (guix ui).
  '((guix gexp)))

(define* (make-configuration-module #:optional (more '()))
  "Return a new module in which a configuration can be evaluated, with the modules MORE."
  (make-user-module (append %modules more)))

(define (load-values configuration)
  "Return (LOCATION . VALUE) for each form of CONFIGURATION, the last one first."
  (define noted
    '())

  (replace-load!)
  (save-module-excursion
   (lambda ()
     (set-current-module (make-configuration-module
                          (if (configuration-expression configuration)
                              %expression-modules
                              '())))
     (load-forms (configuration-file configuration)
                 #:call-with-port (cut call-with-configuration-port configuration <>)
                 #:note (lambda (location value)
                          (set! noted (acons location value noted))))
     noted)))

(define (guix-virtual-machine? object)
  "Is OBJECT a 'virtual-machine' of (gnu system vm)?"
  (and (record? object)
       (eq? '<virtual-machine> (record-type-name (record-type-descriptor object)))
       (not (virtual-machine? object))))

(define (object->machine object location)
  "Return OBJECT as a <virtual-machine>; what else Guix's commands take gets the
defaults: an operating-system, an <image>, and the operating-system of a <machine>, unless
that has a configuration of ours."
  (cond ((virtual-machine? object) object)
        ((operating-system? object)
         (operating-system->machine object))
        ((image? object)
         (image->machine object location))
        ((guix:machine? object)
         (let ((os (guix:machine-operating-system object)))
           (match (guix:machine-configuration object)
             ((? virtual-machine? configuration) (machine-of-system configuration os))
             (_ (operating-system->machine os)))))
        ((guix-virtual-machine? object)
         (refuse location
                 "this is a virtual-machine of (gnu system vm), not of (pyguixvm)"
                 #:hint "Write libvirt-machine, or import (gnu system vm) without: \
(use-modules ((gnu system vm) #:hide (virtual-machine)))."))
        (else
         (refuse location
                 (format #f "~a is no virtual-machine" (describe object))))))

(define (object->deployment object location)
  "Return OBJECT, what the last expression of a configuration gave at LOCATION, as
a <deployment>."
  (match object
    ((? deployment?) object)
    (()
     (refuse location "the last expression is an empty list of machines"
             #:hint "End the file with at least one virtual-machine."))
    ((? list?)
     (machines->deployment (map (cut object->machine <> location)
                                (remove refused? object))))
    ((? (lambda (object) (or (machine? object) (guix-virtual-machine? object))))
     (machines->deployment (list (object->machine object location))))
    (_
     (refuse location
             (if (unspecified? object)
                 "the last expression gives nothing"
                 (string-append "the last expression gives " (describe object)))
             #:hint "End the file with a virtual-machine, a list of them, a \
deployment, or one of Guix's operating-system, image or machine."))))

(define (machine? value)
  "Is VALUE what 'object->machine' takes?"
  (any (lambda (of-type?)
         (of-type? value))
       (list virtual-machine? operating-system? image? guix:machine?)))

(define (machines? value)
  "Is VALUE what a configuration may end with?"
  (match value
    ((or (? deployment?) (? machine?)) #t)
    (((? machine?) ..1) #t)
    (_ #f)))

(define (warn-of-dropped values)
  "Warn of those of VALUES, (LOCATION . VALUE) pairs, that are machines: nothing comes of
them."
  (for-each (match-lambda
              ((location . (? machines?))
               (caution location "this declares machines, but only the last expression of \
a file counts: they are left out"
                        #:hint "End the file with one list of all machines: (list MACHINE …)."))
              (_ #t))
            values))

(define (load-configuration configuration)
  "Return the validated <deployment> that CONFIGURATION, as 'find-configuration' returns
it, declares."
  (match (load-values configuration)
    (()
     (refuse (source-location (configuration-file configuration) 0 0)
             (if (configuration-expression configuration)
                 "the expression is empty"
                 "the file is empty")))
    (((location . object) . before)
     (warn-of-dropped (reverse before))
     (validate-deployment (object->deployment object location)))))

(define (select-machines machines names tags)
  "Return those of MACHINES that are called one of NAMES, or have one of TAGS; all when
both lists are empty."
  (define (refuse-unknown what wanted known)
    (match (lset-difference string=? wanted known)
      (() #t)
      ((unknown _ ...)
       (refuse #f
               (format #f "there is no machine ~a'~a'; the configuration declares ~a"
                       what unknown
                       (if (null? known) "none" (string-join known ", ")))))))

  (refuse-unknown "" names (map virtual-machine-name machines))
  (refuse-unknown "with the tag " tags
                  (delete-duplicates (append-map virtual-machine-tags machines)))
  (if (and (null? names) (null? tags))
      machines
      (filter (lambda (machine)
                (or (member (virtual-machine-name machine) names)
                    (any (cut member <> tags) (virtual-machine-tags machine))))
              machines)))

(define (call-with-configuration asked proc)
  "Call PROC with the configuration that is ASKED for, see 'find-configuration', and return
its value, or a failure.  Its warnings are not told."
  (call-with-failure-handling
   (lambda ()
     (parameterize ((%warn (const #t)))
       (proc (find-configuration asked))))))
