// Goroutines on several threads, with collection, preemption by signals, and programs started meanwhile.
package main

import (
	"fmt"
	"os/exec"
	"runtime"
	"sync"
)

func work(number int) (sum int) {
	var kept [][]int
	for i := 0; i < 20000; i++ {
		kept = append(kept, make([]int, 16))
		if len(kept) > 500 {
			kept = nil
		}
		sum += (i ^ number) % 7
	}
	return
}

func main() {
	runtime.GOMAXPROCS(4)
	sums := make([]int, 8)
	var group sync.WaitGroup
	for i := range sums {
		group.Add(1)
		go func(i int) {
			defer group.Done()
			sums[i] = work(i)
		}(i)
	}
	for i := 0; i < 5; i++ {
		out, err := exec.Command("/bin/echo", "child").Output()
		fmt.Print(string(out), err, "\n")
	}
	group.Wait()
	runtime.GC()
	fmt.Println(sums)
}
