package gateway

import (
	"sync"
	"time"
)

const (
	// acceptedMax bounds the memory of accepted jobs to about 20 MB.
	acceptedMax = 100_000
	// acceptedFor is how long a job may wait on its queue before this gateway stops vouching for it.
	acceptedFor = 15 * time.Minute
)

// acceptedJobs remembers the jobs that this gateway has put on the broker. Their owner does not
// know them before a worker has begun with them, and until then "there is no such order" would be
// wrong. It is a help and no promise: it dies with the process.
type acceptedJobs struct {
	mu   sync.Mutex
	byID map[string]acceptedJob
	ring []string // IDs by slot; the oldest makes room
	next int
}

type acceptedJob struct {
	Kind     string
	ClientID string
	At       time.Time
	slot     int
}

func newAcceptedJobs(most int) *acceptedJobs {
	return &acceptedJobs{byID: map[string]acceptedJob{}, ring: make([]string, most)}
}

// add remembers a job, in place of the oldest one when there are too many. A job that is known
// keeps the time at which it was first accepted.
func (a *acceptedJobs) add(id string, job acceptedJob) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if known, is := a.byID[id]; is && job.At.Sub(known.At) < acceptedFor {
		return
	}
	if last, held := a.byID[a.ring[a.next]]; held && last.slot == a.next {
		delete(a.byID, a.ring[a.next])
	}
	job.slot = a.next
	a.byID[id], a.ring[a.next] = job, id
	a.next = (a.next + 1) % len(a.ring)
}

// find returns a job that was accepted not too long before now.
func (a *acceptedJobs) find(id string, now time.Time) (acceptedJob, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	job, known := a.byID[id]
	return job, known && now.Sub(job.At) < acceptedFor
}
