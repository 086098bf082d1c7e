package stage

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"time"
)

// A state is what the supervisor last wrote about itself and its processes.
type state struct {
	Boot      string         `json:"boot"`            // which boot of the machine this was written in
	Plan      string         `json:"plan"`            // ID of the plan that is being, or has been, made so
	Asked     string         `json:"asked"`           // when that plan was asked for
	Settled   bool           `json:"settled"`         // the plan has been made so: all of it was started
	Progress  []string       `json:"progress"`        // what was done for this plan so far, in words
	Fault     string         `json:"fault,omitempty"` // why the plan could not be made so
	Blame     string         `json:"blame,omitempty"` // the process whose log explains the fault
	Processes []processState `json:"processes"`
}

// processState is one process that the supervisor keeps.
type processState struct {
	Name     string    `json:"name"`
	PID      int       `json:"pid"`             // 0 while it is not running
	Birth    uint64    `json:"birth,omitempty"` // tells it from a later process with its number
	Started  time.Time `json:"started,omitzero"`
	Restarts int       `json:"restarts"`
	Listen   string    `json:"listen,omitempty"`
	Debug    string    `json:"debug,omitempty"`
}

func (s *Stage) readState() (state, error) {
	var st state
	err := readJSON(s.in(stateFile), &st)
	return st, err
}

// alive tells whether this very process still runs.
func (p processState) alive() bool {
	return p.PID > 0 && p.Birth > 0 && birth(p.PID) == p.Birth
}

// birth is when a process began, in the kernel's clock ticks since the boot; 0 if there is no
// such process, or it has ended and only waits to be told so.
func birth(pid int) uint64 {
	const stateField, birthField = 0, 19 // counted behind the name, which may hold anything
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) <= birthField || fields[stateField] == "Z" || fields[stateField] == "X" {
		return 0
	}
	ticks, err := strconv.ParseUint(fields[birthField], 10, 64)
	if err != nil {
		return 0
	}
	return ticks
}

// bootID changes with every boot of the machine. It is empty where the kernel does not tell.
func bootID() string {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}
