package bench

import (
	"os"
	"runtime"
	"strconv"
	"strings"
)

// Machine is what a run ran on.
type Machine struct {
	CPU      string  `json:"cpu"`
	Cores    int     `json:"cores"`
	MemoryGB float64 `json:"memoryGB"`
	Kernel   string  `json:"kernel"`
	Go       string  `json:"go"`
	Database string  `json:"database"`
	Broker   string  `json:"broker"`
	Commit   string  `json:"commit"` // as the settings tell it
}

const unknown = "unknown"

// thisMachine reads what Linux tells. What it does not tell is unknown.
func thisMachine() Machine {
	m := Machine{CPU: lineOf("/proc/cpuinfo", "model name"), Cores: runtime.NumCPU(), Kernel: unknown, Go: runtime.Version()}
	kB, _ := strconv.ParseFloat(strings.TrimSuffix(lineOf("/proc/meminfo", "MemTotal"), " kB"), 64)
	m.MemoryGB = kB / (1 << 20)
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(text))
	}
	return m
}

// lineOf is the first value of a key in a file of lines like "key : value".
func lineOf(file, key string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return unknown
	}
	for line := range strings.Lines(string(text)) {
		if k, value, is := strings.Cut(line, ":"); is && strings.TrimSpace(k) == key {
			return strings.TrimSpace(value)
		}
	}
	return unknown
}
