;;;; Generic functions, hash tables, strings, arrays, and functions compiled while the program runs.
(defclass shape () ())
(defclass circle (shape) ((radius :initarg :radius :reader radius)))
(defclass box (shape) ((width :initarg :width :reader width) (height :initarg :height :reader height)))
(defgeneric area (shape))
(defmethod area ((shape circle)) (* 355/113 (radius shape) (radius shape)))
(defmethod area ((shape box)) (* (width shape) (height shape)))

(defun sieve (limit)
  (let ((composite (make-array (1+ limit) :element-type 'bit :initial-element 0)) (count 0))
    (loop for i from 2 to limit
          when (zerop (aref composite i))
            do (incf count)
               (loop for j from (* i i) to limit by i do (setf (aref composite j) 1)))
    count))

(defun polynomial (round)
  "A function of its own each time, as a program that generates code has them."
  (compile nil `(lambda (x) (declare (double-float x))
                  (let ((sum 0d0))
                    (dotimes (i 200 sum) (setf sum (+ (* sum 0.5d0) (* x i) ,(float round 1d0))))))))

(defun work (round)
  (let ((counts (make-hash-table :test #'equal)) (state round) (total 0) (f (polynomial (mod round 10))))
    (dotimes (i 3000)
      (setf state (logand (+ (* state 1103515245) 12345) #x7fffffff))
      (incf (gethash (format nil "w~d" (mod state 211)) counts 0) i))
    (dotimes (i 4000)
      (incf total (area (if (zerop (mod i 3))
                            (make-instance 'circle :radius (mod i 17))
                            (make-instance 'box :width (mod i 97) :height (mod i 13))))))
    (let ((ranked (sort (loop for k being the hash-keys of counts using (hash-value v) collect (cons v k))
                        (lambda (a b) (or (> (car a) (car b)) (and (= (car a) (car b)) (string< (cdr a) (cdr b))))))))
      (format t "~s ~a ~d ~d~%" (subseq ranked 0 3) total (sieve 20000)
              (floor (loop for x from 0d0 below 100d0 sum (funcall f x)))))))

(loop for round from 1 to (parse-integer (car (last sb-ext:*posix-argv*))) do (work round))
