package stage

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"cartwright/internal/store"
)

// recordRun writes into the table of a Markdown file that the tests went well beside these
// servers. The table has one row for each kind of database, which begins with its name; the rest
// of the file stays as it is.
func recordRun(ctx context.Context, file string, beside besides, began time.Time) error {
	took := time.Since(began)
	database, version, err := databaseVersion(ctx, beside.adminDSN)
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	broker, err := brokerVersion(beside.amqpURL)
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	row := fmt.Sprintf("| %s %s | RabbitMQ %s | %s | %d processors | %s | %s |", database, version, broker,
		strings.Replace(runtime.Version(), "go", "Go ", 1), runtime.NumCPU(), took.Round(time.Second), began.UTC().Format(time.DateOnly))
	recorded, found := withRow(string(text), "| "+database+" ", row)
	if !found {
		return fmt.Errorf("record: %s has no row for %s", file, database)
	}
	return os.WriteFile(file, []byte(recorded), 0o644)
}

// withRow puts a row in the place of the one with that beginning.
func withRow(text, beginning, row string) (result string, found bool) {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, beginning) {
			lines[i], found = row, true
		}
	}
	return strings.Join(lines, "\n"), found
}

// databaseVersion is MariaDB or MySQL, and its version without what distributions append.
func databaseVersion(ctx context.Context, dsn string) (product, version string, err error) {
	db, err := store.Open(dsn, "", 1)
	if err != nil {
		return "", "", err
	}
	defer db.Close()
	var said string
	if err := db.QueryRowContext(ctx, "SELECT VERSION()").Scan(&said); err != nil {
		return "", "", err
	}
	version, rest, _ := strings.Cut(said, "-")
	if strings.Contains(rest, "MariaDB") {
		return "MariaDB", version, nil
	}
	return "MySQL", version, nil
}

func brokerVersion(url string) (string, error) {
	conn, err := amqp.Dial(url)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	version, _ := conn.Properties["version"].(string)
	return version, nil
}
