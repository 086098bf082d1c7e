package store_test

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"cartwright/internal/fault"
	"cartwright/internal/store"
	"cartwright/internal/testenv"
)

// X6, Z2: a wrong password is told as what it is, without the password; the server is not asked
// without end, however often we are; and once the password is right, all is well by itself.
func TestAWrongPasswordIsToldAndWaitedFor(t *testing.T) {
	t.Parallel()
	dsn, _ := testenv.Servers(t)
	admin := testenv.Open(t, "")
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	proxy := testenv.NewProxy(t, cfg.Addr)
	cfg.Addr, cfg.User, cfg.Passwd = proxy.Addr(), "u"+rand.Text()[:10], rand.Text()
	t.Cleanup(func() {
		if _, err := admin.ExecContext(context.Background(), "DROP USER IF EXISTS ?@'%'", cfg.User); err != nil {
			t.Error(err)
		}
	})
	db, err := store.Open(cfg.FormatDSN(), "", 8)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()

	asks := 0
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); asks++ {
		err := store.Ping(t.Context(), db)
		if !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "wrong user or password") || !strings.Contains(err.Error(), cfg.User) || strings.Contains(err.Error(), cfg.Passwd) {
			t.Fatalf("it says %v", err)
		}
	}
	// 100, 200, 400, 800 ms apart.
	if asks < 100 || proxy.Accepted() > 6 {
		t.Errorf("asked %d times, the pool asked the server %d times", asks, proxy.Accepted())
	}
	if _, err := admin.ExecContext(t.Context(), "CREATE USER ?@'%' IDENTIFIED BY ?", cfg.User, cfg.Passwd); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, 20*time.Second, "the account is let in", func() bool { return store.Ping(t.Context(), db) == nil })
}
