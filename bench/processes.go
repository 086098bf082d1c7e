package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"cartwright/stage"
)

const (
	// ticksPerSecond is the unit in which Linux tells processor time, on every machine.
	ticksPerSecond = 100
	// memoryEvery is how often memory is looked at: a peak that is shorter may be missed.
	memoryEvery = 250 * time.Millisecond
	// generatorName is what the bench calls itself among the processes.
	generatorName = "generator"
)

// Cost is what the processes of one service spent on a load, and on what it left them to do.
type Cost struct {
	Process     string  `json:"process"`
	CPUSeconds  float64 `json:"cpuSeconds"`
	PerThousand float64 `json:"cpuSecondsPerThousand"` // requests
	PeakMB      float64 `json:"peakMB"`                // resident memory, the most that was seen meanwhile
}

// inside is what can be seen of a shop's processes on this machine.
type inside struct {
	processes []stage.Process
}

// ofThisShop are the processes, if it is their gateway that is asked. Another shop's say nothing.
func ofThisShop(running []stage.Process, address string) []stage.Process {
	for _, p := range running {
		if p.Service == "gateway" && p.Listen == address {
			return append(slices.Clone(running), stage.Process{Service: generatorName, PID: os.Getpid()})
		}
	}
	return nil
}

// window watches the processes during a load.
type window struct {
	inside
	spent   map[int]float64 // processor seconds at its beginning, by process
	peaks   map[int]int64   // bytes, by process
	batches map[batchKey]flushes
	stop    context.CancelFunc
	looking sync.WaitGroup
}

// watch begins a window. It must be ended, or closed.
func (in inside) watch(ctx context.Context) (*window, error) {
	w := &window{inside: in, spent: map[int]float64{}, peaks: map[int]int64{}}
	var err error
	if w.batches, err = in.readBatches(ctx); err != nil {
		return nil, err
	}
	for _, p := range in.processes {
		if w.spent[p.PID], err = processorSeconds(p.PID); err != nil {
			return nil, fmt.Errorf("%s: %w", p.Service, err)
		}
	}
	ctx, w.stop = context.WithCancel(ctx)
	w.looking.Go(func() { w.lookAtMemory(ctx) })
	return w, nil
}

func (w *window) lookAtMemory(ctx context.Context) {
	tick := time.NewTicker(memoryEvery)
	defer tick.Stop()
	for {
		for _, p := range w.processes {
			w.peaks[p.PID] = max(w.peaks[p.PID], residentBytes(p.PID))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// close ends a window that nobody wants to know of any more.
func (w *window) close() {
	w.stop()
	w.looking.Wait()
}

// end returns what was spent on so many requests, by service in the order of the processes, and
// the batches that they made.
func (w *window) end(ctx context.Context, requests int) (costs []Cost, batches []Batch, err error) {
	w.close()
	var faults []error
	for _, p := range w.processes {
		now, err := processorSeconds(p.PID)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s ended under the load: %w", p.Service, err))
			continue
		}
		i := slices.IndexFunc(costs, func(c Cost) bool { return c.Process == p.Service })
		if i < 0 {
			i, costs = len(costs), append(costs, Cost{Process: p.Service})
		}
		costs[i].CPUSeconds += now - w.spent[p.PID]
		costs[i].PeakMB += float64(w.peaks[p.PID]) / (1 << 20)
	}
	for i := range costs {
		costs[i].PerThousand = costs[i].CPUSeconds * 1000 / float64(max(1, requests))
	}
	batches, err = w.batchesSince(ctx, w.batches)
	return costs, batches, errors.Join(append(faults, err)...)
}

// processorSeconds is how long a process has been on a processor, in user and kernel mode.
func processorSeconds(pid int) (float64, error) {
	const userField, kernelField = 11, 12 // counted behind the name, which may hold anything
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) <= kernelField {
		return 0, fmt.Errorf("process %d: its times cannot be read", pid)
	}
	user, errUser := strconv.ParseFloat(fields[userField], 64)
	kernel, errKernel := strconv.ParseFloat(fields[kernelField], 64)
	return (user + kernel) / ticksPerSecond, errors.Join(errUser, errKernel)
}

// residentBytes is how much memory a process holds now; 0 if it has ended.
func residentBytes(pid int) int64 {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, is := strings.CutPrefix(line, "VmRSS:"); is {
			kB, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return kB << 10
		}
	}
	return 0
}
