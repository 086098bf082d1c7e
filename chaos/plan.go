package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Fault is one thing that is broken on purpose, and when.
type Fault struct {
	At     time.Duration `json:"at"` // since the load began, in nanoseconds
	Kind   string        `json:"kind"`
	Target string        `json:"target,omitempty"` // a process, or a link such as gateway-2>inventory; * is all of them
	Lasts  time.Duration `json:"lasts,omitempty"`  // until it is healed
	Amount int           `json:"amount,omitempty"` // of what the kind says
}

func (f Fault) String() string {
	text := fmt.Sprintf("%6.1f s  %-16s %s", f.At.Seconds(), f.Kind, f.Target)
	if f.Lasts > 0 {
		text += fmt.Sprintf(" for %.1f s", f.Lasts.Seconds())
	}
	return text
}

// aim is what a kind of fault is aimed at.
type aim int

const (
	atNothing aim = iota // the shop as a whole
	atProcess            // a process of a service
	atBroker
	atDatabase
	atLink // what is between processes
)

// kind is one kind of fault.
type kind struct {
	name, does  string
	aim         aim
	weight      int           // how often it comes, beside the others
	least, most time.Duration // how long it lasts
	small, big  int           // its amount
	run         func(in *injector, w wait, f Fault) error
}

const second = time.Second

// kinds is the table of all of them. What takes the shop down for long comes less often.
func kinds() []kind {
	return []kind{
		{"kill", "SIGKILL of a service's process", atProcess, 4, 0, 0, 0, 0, (*injector).kill},
		{"stop", "SIGSTOP of a service's process, SIGCONT later", atProcess, 3, second / 2, 6 * second, 0, 0, (*injector).stop},
		{"restart", "SIGTERM of a service's process, which finishes what it has in hand", atProcess, 3, 0, 0, 0, 0, (*injector).restart},
		{"kill broker", "SIGKILL of RabbitMQ", atBroker, 1, 0, 0, 0, 0, (*injector).kill},
		{"stop broker", "SIGSTOP of RabbitMQ, SIGCONT later", atBroker, 1, second, 5 * second, 0, 0, (*injector).stop},
		{"restart broker", "SIGTERM of RabbitMQ", atBroker, 1, 0, 0, 0, 0, (*injector).restart},
		{"kill database", "SIGKILL of MariaDB", atDatabase, 1, 0, 0, 0, 0, (*injector).kill},
		{"stop database", "SIGSTOP of MariaDB, SIGCONT later", atDatabase, 1, second, 5 * second, 0, 0, (*injector).stop},
		{"restart database", "SIGTERM of MariaDB", atDatabase, 1, 0, 0, 0, 0, (*injector).restart},
		{"cut", "connections end, and new ones are refused", atLink, 3, second / 2, 4 * second, 0, 0, (*injector).cut},
		{"black hole", "nothing comes through, either way", atLink, 3, second / 2, 6 * second, 0, 0, (*injector).hole},
		{"deaf", "one way: no request comes through", atLink, 2, second / 2, 5 * second, 0, 0, (*injector).deafen},
		{"mute", "one way: no answer comes through", atLink, 2, second / 2, 5 * second, 0, 0, (*injector).mute},
		{"lost answers", "what was asked is done, and nobody hears of it", atLink, 3, second / 5, second, 0, 0, (*injector).loseAnswers},
		{"delay", "every piece waits for so many milliseconds", atLink, 2, second, 5 * second, 20, 400, (*injector).delay},
		{"throttle", "so many bytes a second of each connection", atLink, 2, second, 5 * second, 4 << 10, 64 << 10, (*injector).throttle},
		{"reset", "connections are reset", atLink, 3, 0, 0, 0, 0, (*injector).reset},
		{"memory alarm", "RabbitMQ believes that its memory is full", atBroker, 1, second, 3 * second, 0, 0, (*injector).memoryAlarm},
		{"disk alarm", "RabbitMQ believes that its disk is full", atBroker, 1, second, 3 * second, 0, 0, (*injector).diskAlarm},
		{"connection limit", "MariaDB takes no more connections, and those it had are gone", atDatabase, 1, second, 4 * second, 10, 12, (*injector).limitConnections},
		{"poison", "so many messages that no worker can do anything with", atNothing, 2, 0, 0, 1, 5, (*injector).poison},
		{"duplicates", "so many jobs are delivered again, of now and of long ago", atNothing, 3, 0, 0, 5, 40, (*injector).duplicate},
	}
}

// ground is what there is to break.
type ground struct {
	processes []string // of the services, such as inventory-2
	links     []string // who connects with whom: gateway-2>inventory
}

const (
	// firstFault leaves the load time to begin, and lastFault what is broken time to be felt.
	firstFault = 2 * second
	lastFault  = second
	// gapLeast and gapMost lie between two faults, which may last longer than that.
	gapLeast = 600 * time.Millisecond
	gapMost  = 2600 * time.Millisecond
	// A server that is started anew, or was silent, is given this much more, or nothing else would be
	// tried on a shop that works.
	calmLeast = 5 * second
	calmMost  = 9 * second
	// lightFirst is how many others come before each fault of a server, the first time round.
	lightFirst = 4
)

// heavy tells whether a fault takes a whole server away.
func (k kind) heavy() bool { return k.aim == atBroker || k.aim == atDatabase }

// plan says what is broken, when, where and for how long. All of it follows from the seed, the length
// and the ground. Every kind comes once before any comes again.
func plan(seed uint64, length time.Duration, g ground) (faults []Fault) {
	r := rand.New(rand.NewPCG(seed, 0))
	all := kinds()
	bag := once(r, all)
	for at := firstFault; at <= length-lastFault; at += between(r, gapLeast, gapMost) {
		k := bag[0]
		if bag = bag[1:]; len(bag) == 0 {
			bag = fill(r, all)
		}
		faults = append(faults, Fault{
			At: at, Kind: k.name, Target: g.target(r, k.aim), Lasts: between(r, k.least, k.most), Amount: k.small + r.IntN(k.big-k.small+1),
		})
		if k.heavy() {
			at += between(r, calmLeast, calmMost)
		}
	}
	return faults
}

// once is a bag with each kind once, those of the servers among the others.
func once(r *rand.Rand, all []kind) (bag []kind) {
	shaken := slices.Clone(all)
	r.Shuffle(len(shaken), func(i, j int) { shaken[i], shaken[j] = shaken[j], shaken[i] })
	var heavy []kind
	for _, k := range shaken {
		if k.heavy() {
			heavy = append(heavy, k)
			continue
		}
		if bag = append(bag, k); len(bag)%(lightFirst+1) == lightFirst && len(heavy) > 0 {
			bag, heavy = append(bag, heavy[0]), heavy[1:]
		}
	}
	return append(bag, heavy...)
}

// fill is a bag with each kind as often as it weighs, shaken.
func fill(r *rand.Rand, all []kind) (bag []kind) {
	for _, k := range all {
		bag = append(bag, slices.Repeat([]kind{k}, k.weight)...)
	}
	r.Shuffle(len(bag), func(i, j int) { bag[i], bag[j] = bag[j], bag[i] })
	return bag
}

// between draws a duration, in whole milliseconds so that it can be read.
func between(r *rand.Rand, least, most time.Duration) time.Duration {
	return (least + time.Duration(r.Int64N(int64(most-least)+1))).Truncate(time.Millisecond)
}

// target draws what is hit: of links one, or all of one process, or all that lead to one.
func (g ground) target(r *rand.Rand, a aim) string {
	switch a {
	case atProcess:
		return g.processes[r.IntN(len(g.processes))]
	case atBroker:
		return broker
	case atDatabase:
		return database
	case atLink:
		link := g.links[r.IntN(len(g.links))]
		from, to := ends(link)
		switch r.IntN(4) {
		case 0:
			return from + linkSign + everybody
		case 1:
			return everybody + linkSign + to
		}
		return link
	}
	return ""
}
