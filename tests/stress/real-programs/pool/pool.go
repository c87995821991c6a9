// Package pool runs functions on a fixed number of goroutines.
package pool

import "sync"

// Pool is a set of goroutines that take functions from a queue.
type Pool struct {
	queue chan func()
	group sync.WaitGroup
}

// New starts a pool of `size` goroutines.
func New(size int) *Pool {
	pool := &Pool{queue: make(chan func(), size)}
	for i := 0; i < size; i++ {
		go func() {
			for function := range pool.queue {
				function()
				pool.group.Done()
			}
		}()
	}
	return pool
}

// Run queues a function.
func (pool *Pool) Run(function func()) {
	pool.group.Add(1)
	pool.queue <- function
}

// Close waits for all that was queued and ends the goroutines.
func (pool *Pool) Close() {
	pool.group.Wait()
	close(pool.queue)
}
