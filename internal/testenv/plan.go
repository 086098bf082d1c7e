package testenv

import (
	"database/sql"
	"slices"
	"testing"

	"cartwright/internal/store"
)

// Index tells which index the server takes for a statement about one table; empty for none.
func Index(t testing.TB, db *sql.DB, statement string, args ...any) (name string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "EXPLAIN FORMAT=TRADITIONAL "+statement, args...)
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	defer rows.Close()
	columns, err := rows.Columns() // not the same on every server
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		values := make([]sql.NullString, len(columns))
		into := make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		name = values[slices.Index(columns, "key")].String
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return name
}

// Reads counts the rows, and entries of indexes, that the server looks at for what do does. The
// pool must have one connection only: the server counts by session.
func Reads(t testing.TB, db *sql.DB, do func()) int64 {
	t.Helper()
	if n := db.Stats().MaxOpenConnections; n != 1 {
		t.Fatalf("the pool may have %d connections, want 1", n)
	}
	start := reads(t, db)
	looking := reads(t, db) - start // what a look costs by itself
	start = reads(t, db)
	do()
	return reads(t, db) - start - looking
}

func reads(t testing.TB, db *sql.DB) (n int64) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "SHOW SESSION STATUS WHERE Variable_name LIKE 'Handler_read%' OR Variable_name = 'Handler_icp_attempts'")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		var count int64
		if err := rows.Scan(&name, &count); err != nil {
			t.Fatal(err)
		}
		n += count
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return n
}

// Fill adds many rows to a table: row gives the values of each. Then the server looks at what the
// table has, as it does by itself sooner or later.
func Fill(t testing.TB, db *sql.DB, table, columns string, n int, row func(i int) []any) {
	t.Helper()
	const step = 500
	for first := 0; first < n; first += step {
		rows := min(step, n-first)
		var args []any
		for i := range rows {
			args = append(args, row(first+i)...)
		}
		into := "INSERT INTO " + table + " (" + columns + ") VALUES "
		if _, err := db.ExecContext(t.Context(), into+store.Tuples(rows, store.In(len(args)/rows)), args...); err != nil {
			t.Fatal(err)
		}
	}
	var name, op, kind, said string
	if err := db.QueryRowContext(t.Context(), "ANALYZE TABLE "+table).Scan(&name, &op, &kind, &said); err != nil {
		t.Fatal(err)
	}
}
