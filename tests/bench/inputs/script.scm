;; Lists, closures, vectors, strings, big and floating-point numbers, in what Guile and Chez Scheme have in common.
(define (sieve limit)
  (let ((composite (make-vector (+ limit 1) #f)))
    (let loop ((i 2) (count 0))
      (cond ((> i limit) count)
            ((vector-ref composite i) (loop (+ i 1) count))
            (else (do ((j (* i i) (+ j i))) ((> j limit)) (vector-set! composite j #t))
                  (loop (+ i 1) (+ count 1)))))))

(define (merge a b less?)
  (let loop ((a a) (b b) (out '()))
    (cond ((null? a) (append (reverse out) b))
          ((null? b) (append (reverse out) a))
          ((less? (car b) (car a)) (loop a (cdr b) (cons (car b) out)))
          (else (loop (cdr a) b (cons (car a) out))))))

(define (halves items)
  (let loop ((items items) (a '()) (b '()))
    (if (null? items) (cons a b) (loop (cdr items) b (cons (car items) a)))))

(define (sorted items less?)
  (if (or (null? items) (null? (cdr items)))
      items
      (let ((h (halves items))) (merge (sorted (car h) less?) (sorted (cdr h) less?) less?))))

(define (counter)
  (let ((n 0)) (lambda (by) (set! n (modulo (+ (* n 31) by) 1000003)) n)))

(define (factorial n) (if (= n 0) 1 (* n (factorial (- n 1)))))

(define (tree depth) (if (= depth 0) '() (cons (tree (- depth 1)) (tree (- depth 1)))))
(define (size t) (if (null? t) 1 (+ (size (car t)) (size (cdr t)))))

(define (work round)
  (let* ((count (counter))
         (numbers (let loop ((i 0) (out '())) (if (= i 3000) out (loop (+ i 1) (cons (count (* i round)) out)))))
         (ranked (sorted numbers <))
         (text (apply string-append (map number->string ranked)))
         (sum (let loop ((i 1) (items ranked) (sum 0.0))
                (if (null? items) sum (loop (+ i 1) (cdr items) (+ sum (/ (exact->inexact (car items)) i)))))))
    (list (sieve 5000) (string-length text) (inexact->exact (floor sum)) (modulo (factorial 150) 1000003) (size (tree 10)))))

(let ((rounds (string->number (cadr (command-line)))))
  (do ((round 1 (+ round 1))) ((> round rounds))
    (write (work round))
    (newline)))
