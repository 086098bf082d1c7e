package chaos

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"cartwright/bench"
	"cartwright/internal/store"
	schema "cartwright/sql"
	"cartwright/stage"
)

// lineMax is the longest line of a log that is read whole; a longer one is read in pieces.
const lineMax = 1 << 20

// panics are how a Go program's last words begin, and what a service logs that has caught one.
var panics = []string{"panic:", "fatal error:", `"panic`}

// logs looks into what the services said.
func (j *judge) logs(shop stage.Shop) error {
	files, err := filepath.Glob(filepath.Join(shop.LogDir, "*.log*"))
	if err != nil {
		return err
	}
	for _, path := range files {
		name := filepath.Base(path)
		if strings.HasPrefix(name, broker) || strings.HasPrefix(name, database) {
			continue // they have their own ways to put it
		}
		if err := j.log(path, name, shop.Secrets()); err != nil {
			return err
		}
	}
	return nil
}

func (j *judge) log(path, name string, secrets []string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, lineMax)
	for lines.Scan() {
		text := lines.Text()
		for _, p := range panics {
			if strings.Contains(text, p) {
				j.note(ruleLog, "%s: %.300s", name, text)
			}
		}
		for _, s := range secrets {
			if strings.Contains(text, s) {
				j.note(ruleLog, "%s has a secret in it", name)
			}
		}
	}
	return lines.Err()
}

// books notes what the bench's look into the books has found.
func (j *judge) books(b bench.Books) {
	if b.Oversold > 0 {
		j.note(ruleBooks, "%d units were sold beyond what was there", b.Oversold)
	}
	if b.Duplicates > 0 {
		j.note(ruleBooks, "%d orders or charges beyond one a checkout", b.Duplicates)
	}
	if b.Lost > 0 {
		j.note(ruleBooks, "%d checkouts were confirmed or accepted, and have no order that says so", b.Lost)
	}
	for _, d := range b.Differences {
		j.note(ruleBooks, "%s", d)
	}
}

// dump writes the contents of all tables, a file for each with a row a line.
func dump(ctx context.Context, db *sql.DB, folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	var tables [][2]string
	rows, err := db.QueryContext(ctx, "SELECT table_schema, table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE'")
	if err != nil {
		return store.Classify(err)
	}
	defer rows.Close()
	for rows.Next() {
		var one [2]string
		if err := rows.Scan(&one[0], &one[1]); err != nil {
			return err
		}
		for _, d := range schema.Databases() {
			if one[0] == d {
				tables = append(tables, one)
			}
		}
	}
	errs := []error{store.Classify(rows.Err())}
	for _, t := range tables {
		errs = append(errs, dumpTable(ctx, db, t[0], t[1], filepath.Join(folder, t[0]+"."+t[1]+".jsonl")))
	}
	return errors.Join(errs...)
}

func dumpTable(ctx context.Context, db *sql.DB, database, table, path string) error {
	rows, err := db.QueryContext(ctx, "SELECT * FROM `"+database+"`.`"+table+"`") // names that the server gave
	if err != nil {
		return store.Classify(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	text := bufio.NewWriter(file)
	for rows.Next() {
		values, into := make([]sql.NullString, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			return err
		}
		row := map[string]any{}
		for i, v := range values {
			if v.Valid {
				row[columns[i]] = v.String
			}
		}
		line, err := json.Marshal(row)
		if err != nil {
			return err
		}
		fmt.Fprintf(text, "%s\n", line)
	}
	return errors.Join(store.Classify(rows.Err()), text.Flush())
}
