;;; SPDX-License-Identifier: GPL-3.0-or-later

(define-module (pyguixvm machine advice)
  #:use-module (guix diagnostics)
  #:use-module (guix i18n)
  #:use-module (guix utils)
  #:use-module (ice-9 match)
  #:use-module (srfi srfi-1)
  #:use-module (srfi srfi-34)
  #:use-module (srfi srfi-35)
  #:export (call-with-ssh-advice))

;;; Commentary:
;;;
;;; What to do when a guest does not let us in.  Guix says why in the user's language: what
;;; it means is known by the texts that it translates.
;;;
;;; Code:

(define (beginning template)
  "Return TEMPLATE, for 'format', up to what it is filled with."
  (match (string-index template #\~)
    (#f template)
    (index (string-take template index))))

(define (says? object template)
  "Does OBJECT, which was raised, say what TEMPLATE, of Guix's, says?"
  (cond ((formatted-message? object)
         (string-prefix? (beginning template) (formatted-message-string object)))
        ((message-condition? object)
         (string-prefix? (beginning (gettext template %gettext-domain))
                         (condition-message object)))
        (else #f)))

(define (advice object name address)
  "Return what to do about OBJECT, raised on the way to the guest NAME at ADDRESS, in
Texinfo, or #f."
  (any (match-lambda
         ((template . text)
          (and (says? object template) text)))
       `(("SSH authentication failed for '~a@~a': ~a~%"
          . "Have the guest let root in by a key of yours, see 'authorized-keys' of \
openssh-configuration, and that key in your ssh agent.")
         ("failed to authenticate server at '~a': ~a"
          . ,(string-append "Its agent did not tell its host key, and known_hosts does not \
know it.  Compare it on the console ('pyguixvm console " name "'), then accept it with: \
ssh root@@" address))
         ("SSH connection to '~a' port ~a failed: ~a~%"
          . "Does the guest run sshd (openssh-service-type)?"))))

(define (call-with-ssh-advice name address thunk)
  "Call THUNK, which makes its way to the guest NAME at ADDRESS; what it raises says what to
do, if that is known."
  (guard (c ((and (not (fix-hint? c))
                  (advice c name address))
             => (lambda (text)
                  (raise (make-compound-condition
                          c (condition (&fix-hint (hint text))))))))
    (thunk)))
