package schema_test

import (
	"database/sql"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"cartwright/internal/testenv"
	schema "cartwright/sql"
)

// owners are the folders in which the statements of each database's owner are.
var owners = map[string]string{
	schema.Inventory: "inventory", schema.Carts: "cartmanager", schema.Checkouts: "checkoutmanager",
	schema.Payments: "payments", schema.Catalogue: "catalogue",
}

// verbs are what can be done to the rows of a table, each as a statement that does it to none. That
// one inserts no value for some column is found out only after the rights have been looked at.
var verbs = map[string]string{
	"SELECT": "SELECT 1 FROM %[1]s WHERE 1 = 0",
	"INSERT": "INSERT INTO %[1]s (%[2]s) SELECT %[2]s FROM (SELECT NULL AS %[2]s) nothing WHERE 1 = 0",
	"UPDATE": "UPDATE %[1]s SET %[2]s = NULL LIMIT 0",
	"DELETE": "DELETE FROM %[1]s LIMIT 0",
}

// structural statements are nobody's but the administrator's.
var structural = []string{
	"TRUNCATE TABLE %[1]s", "ALTER TABLE %[1]s ADD COLUMN mine INT", "CREATE INDEX mine ON %[1]s (%[2]s)",
	"CREATE TRIGGER `%[3]s`.mine BEFORE INSERT ON %[1]s FOR EACH ROW SET @mine = 1", "LOCK TABLES %[1]s READ", "DROP TABLE %[1]s",
}

// X5: each service can do to each table what its own statements do, and to no other table anything:
// tried on every table that there is, of its shop, of a shop beside it, and of the server.
func TestServicesCanDoToTheirTablesWhatTheyDo(t *testing.T) {
	t.Parallel()
	namespace, beside := testenv.Namespace(t), testenv.Namespace(t)
	dsn, _ := testenv.Servers(t)
	for _, d := range schema.Databases() {
		up(t, dsn, namespace, d)
		up(t, dsn, beside, d)
	}
	for own, folder := range owners {
		account := newAccount(t, dsn, namespace+own)
		if err := schema.Owner(t.Context(), dsn, namespace, own, account); err != nil {
			t.Fatal(err)
		}
		db, uses, tables := login(t, account), statementsOf(t, folder), tablesOf(t, namespace, beside)
		seen := 0
		for _, table := range tables {
			for verb, statement := range verbs {
				mine := table.database == namespace+own && slices.Contains(uses[table.name], verb)
				if err := execAs(t, db, fmt.Sprintf(statement, table, table.column)); denied(err) == mine {
					t.Errorf("%s: %s on %s: %v, and it should be %v that this is allowed", own, verb, table, err, mine)
				}
			}
			for _, statement := range structural {
				if table.database == "mysql" && strings.HasPrefix(statement, "CREATE TRIGGER") {
					continue // nobody may
				}
				expect(t, db, fmt.Sprintf(statement, table, table.column, table.database), false)
			}
			if table.database == namespace+own {
				seen++
			}
		}
		if seen <= len(uses)/2 || len(tables) < 40 {
			t.Errorf("%s: only %d of %d tables are its own", own, seen, len(tables))
		}
	}
}

func execAs(t *testing.T, db *sql.DB, statement string) error {
	_, err := db.ExecContext(t.Context(), statement)
	return err
}

type table struct{ database, name, column string }

func (t table) String() string { return "`" + t.database + "`.`" + t.name + "`" }

// tablesOf lists every table of the two namespaces and of the server's own accounts, each with its
// first column.
func tablesOf(t *testing.T, namespaces ...string) (all []table) {
	t.Helper()
	rows, err := testenv.Open(t, "").QueryContext(t.Context(), `
		SELECT   c.table_schema, c.table_name, c.column_name
		FROM     information_schema.columns c
		JOIN     information_schema.tables t ON t.table_schema = c.table_schema AND t.table_name = c.table_name
		WHERE    c.ordinal_position = 1 AND t.table_type = 'BASE TABLE'
		ORDER BY c.table_schema, c.table_name`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var one table
		if err := rows.Scan(&one.database, &one.name, &one.column); err != nil {
			t.Fatal(err)
		}
		ours := slices.ContainsFunc(namespaces, func(n string) bool { return strings.HasPrefix(one.database, n) })
		if ours || one.database == "mysql" && slices.Contains([]string{"global_priv", "user", "db", "tables_priv"}, one.name) {
			all = append(all, one)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

var (
	inserts = regexp.MustCompile(`(?:INSERT INTO |insert\(ctx, tx, ")([a-z_]+)`)
	updates = regexp.MustCompile(`\bUPDATE ([a-z_]+)`)
	deletes = regexp.MustCompile(`\bDELETE FROM ([a-z_]+)`)
	selects = regexp.MustCompile(`\b(?:FROM|JOIN) +([a-z_]+)`)
)

// statementsOf reads out of a service's source what it does to which table, through our own tools
// too: of pauses, it has a gate, and only people at the command line change them.
func statementsOf(t *testing.T, folder string) map[string][]string {
	t.Helper()
	files, err := filepath.Glob("../" + folder + "/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %v", folder, err)
	}
	found := map[string]map[string]bool{}
	note := func(verb string, matches [][]string) {
		for _, m := range matches {
			if found[m[1]] == nil {
				found[m[1]] = map[string]bool{}
			}
			found[m[1]][verb] = true
		}
	}
	files = append(files, "../internal/outbox/outbox.go")
	if folder == "cartmanager" || folder == "checkoutmanager" {
		files = append(files, "../internal/pauses/pauses.go", "../internal/pauses/gate.go")
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		for _, function := range strings.Split(string(text), "\nfunc ") {
			note("INSERT", inserts.FindAllStringSubmatch(function, -1))
			note("UPDATE", updates.FindAllStringSubmatch(function, -1))
			note("DELETE", deletes.FindAllStringSubmatch(function, -1))
			note("SELECT", selects.FindAllStringSubmatch(function, -1))
			if strings.Contains(function, "ON DUPLICATE KEY UPDATE") {
				note("UPDATE", inserts.FindAllStringSubmatch(function, -1))
			}
		}
	}
	uses := map[string][]string{}
	for name, done := range found {
		uses[name] = slices.Sorted(maps.Keys(done))
	}
	return uses
}

// What an earlier version gave, rights on a whole database or too many on a table, is taken back;
// and other databases' rights are none of its business.
func TestSurplusRightsAreTakenBack(t *testing.T) {
	t.Parallel()
	namespace := testenv.Namespace(t)
	dsn, _ := testenv.Servers(t)
	up(t, dsn, namespace, schema.Inventory)
	up(t, dsn, namespace, schema.Catalogue)
	user := namespace + "grown"
	account := newAccount(t, dsn, user)
	owner := func(database string) {
		if err := schema.Owner(t.Context(), dsn, namespace, database, account); err != nil {
			t.Fatal(err)
		}
	}
	owner(schema.Inventory)
	admin := testenv.Open(t, "")
	inventory := "`" + namespace + schema.Inventory + "`"
	exec(t, admin, "GRANT SELECT, INSERT, UPDATE, DELETE ON `"+strings.ReplaceAll(namespace, "_", `\_`)+schema.Inventory+"`.* TO '"+user+"'@'%'")
	exec(t, admin, "GRANT UPDATE, DROP ON "+inventory+".stock_movements TO '"+user+"'@'%'")
	owner(schema.Catalogue)
	db := login(t, account)
	expect(t, db, "DELETE FROM "+inventory+".stock_movements LIMIT 0", true)
	owner(schema.Inventory)
	for statement, allowed := range map[string]bool{
		"DELETE FROM " + inventory + ".stock_movements LIMIT 0":                                     false,
		"UPDATE " + inventory + ".stock_movements SET delta = 1 LIMIT 0":                            false,
		"DROP TABLE " + inventory + ".stock_movements":                                              false,
		"SELECT 1 FROM " + inventory + ".stock_movements LIMIT 0":                                   true,
		"SELECT 1 FROM `" + namespace + schema.Catalogue + "`.products LIMIT 0":                     true,
		"SELECT 1 FROM " + inventory + ".goose_db_version LIMIT 0":                                  false,
		"SELECT 1 FROM `" + namespace + schema.Catalogue + "`.goose_db_version WHERE 1 = 0 LIMIT 0": false,
	} {
		expect(t, db, statement, allowed)
	}
}
