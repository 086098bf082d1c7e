// Package logging makes the one logger of a process.
package logging

import (
	"fmt"
	"io"
	"log/slog"
)

// Settings of the log.
type Settings struct {
	Level  slog.Level `env:"LOG_LEVEL" envDefault:"info" help:"debug, info, warn or error"`
	Format string     `env:"LOG_FORMAT" envDefault:"json" help:"json or text"`
}

// New makes a logger that writes lines with the service's name in each.
func New(out io.Writer, s Settings, service string) (*slog.Logger, error) {
	opts := &slog.HandlerOptions{Level: s.Level}
	switch s.Format {
	case "json":
		return slog.New(slog.NewJSONHandler(out, opts)).With("service", service), nil
	case "text":
		return slog.New(slog.NewTextHandler(out, opts)).With("service", service), nil
	}
	return nil, fmt.Errorf("CARTWRIGHT_LOG_FORMAT is %q, want json or text", s.Format)
}
