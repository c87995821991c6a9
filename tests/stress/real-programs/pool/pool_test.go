package pool

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func TestSum(t *testing.T) {
	for _, size := range []int{1, 2, 7, 32} {
		size := size
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			pool, sum := New(size), int64(0)
			for i := int64(1); i <= 2000; i++ {
				i := i
				pool.Run(func() { atomic.AddInt64(&sum, i) })
			}
			pool.Close()
			if sum != 2000*2001/2 {
				t.Errorf("%d", sum)
			}
		})
	}
}

// The collector stops all goroutines by signals while they loop without a call.
func TestPreemption(t *testing.T) {
	t.Parallel()
	pool, stop := New(2), int32(0)
	for i := 0; i < 2; i++ {
		pool.Run(func() {
			for n := 0; atomic.LoadInt32(&stop) == 0; n++ {
			}
		})
	}
	for i := 0; i < 3; i++ {
		runtime.GC()
	}
	atomic.StoreInt32(&stop, 1)
	pool.Close()
}

func TestFaults(t *testing.T) {
	t.Parallel()
	fault := func() (text string) {
		defer func() { text = fmt.Sprint(recover()) }()
		var nowhere *int
		return fmt.Sprint(*nowhere)
	}
	for i := 0; i < 200; i++ {
		if text := fault(); text != "runtime error: invalid memory address or nil pointer dereference" {
			t.Fatal(text)
		}
	}
}

func TestSignals(t *testing.T) {
	received := make(chan os.Signal, 1)
	signal.Notify(received, syscall.SIGUSR1)
	defer signal.Stop(received)
	for i := 0; i < 100; i++ {
		syscall.Kill(syscall.Getpid(), syscall.SIGUSR1)
		<-received
	}
}

func TestPrograms(t *testing.T) {
	t.Parallel()
	pool := New(4)
	for i := 0; i < 12; i++ {
		i := i
		pool.Run(func() {
			out, err := exec.Command("/bin/sh", "-c", fmt.Sprintf("echo $((%d * 2))", i)).Output()
			if err != nil || string(out) != fmt.Sprintln(i*2) {
				t.Error(i, string(out), err)
			}
		})
	}
	pool.Close()
}

func TestTimers(t *testing.T) {
	t.Parallel()
	ticks := time.NewTicker(time.Millisecond)
	defer ticks.Stop()
	for i := 0; i < 50; i++ {
		<-ticks.C
	}
}
