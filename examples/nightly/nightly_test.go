package nightly_test

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/examples/nightly"
	"github.com/redis/go-redis/v9"
	_ "modernc.org/sqlite"
)

// counters are daily counters on an embedded server, and a database in memory.
func counters() (system *distkit.System, server *miniredis.Miniredis, db *sql.DB, stop func()) {
	server, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	if system, err = distkit.NewSystem(client); err != nil {
		log.Fatal(err)
	}
	if db, err = sql.Open("sqlite", ":memory:"); err != nil {
		log.Fatal(err)
	}
	db.SetMaxOpenConns(1) // a database in memory is one connection's
	if _, err := db.Exec(nightly.Schema); err != nil {
		log.Fatal(err)
	}
	return system, server, db, func() {
		_ = system.Shutdown(context.Background())
		_ = client.Close()
		_ = db.Close()
		server.Close()
	}
}

// print prints the table.
func print(db *sql.DB) {
	rows, err := db.Query(`SELECT tenant, calls FROM usage ORDER BY tenant`)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var tenant string
		var calls int64
		if err := rows.Scan(&tenant, &calls); err != nil {
			log.Fatal(err)
		}
		fmt.Println(tenant, calls)
	}
	if err := rows.Err(); err != nil {
		log.Fatal(err)
	}
}

// Usage is counted by the day and the tenant; each night a job copies yesterday's, and
// runs again if it is not sure that it has.
func ExampleCopy() {
	system, _, db, stop := counters()
	defer stop()
	ctx := context.Background()
	daily, err := system.Lax().Per(distkit.Daily(time.UTC), 7*24*time.Hour)
	if err != nil {
		log.Fatal(err)
	}

	yesterday := time.Now().UTC().AddDate(0, 0, -1)
	for tenant, calls := range map[string]int64{"acme": 250, "example": 40} {
		if _, err := daily.At(yesterday).Inc(ctx, distkit.MustKey(tenant), calls); err != nil {
			log.Fatal(err)
		}
	}
	for range 2 {
		rows, err := nightly.Copy(ctx, db, daily, yesterday)
		fmt.Println(rows, "tenants", err)
	}
	print(db)
	// Output:
	// 2 tenants <nil>
	// 2 tenants <nil>
	// acme 250
	// example 40
}

// What Redis cannot give, or has let go, does not take away what was copied.
func TestCopy_thatFails_leavesTheTable(t *testing.T) {
	system, server, db, stop := counters()
	defer stop()
	ctx := t.Context()
	daily, err := system.Strict().Per(distkit.Daily(time.UTC), 7*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	day := time.Now().UTC()
	if _, err := daily.At(day).Inc(ctx, distkit.MustKey("acme"), 7); err != nil {
		t.Fatal(err)
	}
	copied := func(wantRows int, fails bool) {
		t.Helper()
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		rows, err := nightly.Copy(short, db, daily, day)
		if rows != wantRows || (err != nil) != fails {
			t.Errorf("%d rows, %v", rows, err)
		}
		var calls int64
		if err := db.QueryRow(`SELECT calls FROM usage WHERE tenant = 'acme'`).Scan(&calls); err != nil || calls != 7 {
			t.Errorf("the table has %d: %v", calls, err)
		}
	}
	copied(1, false)
	server.SetError("LOADING Redis is loading the dataset in memory")
	copied(0, true)
	server.SetError("")
	server.FlushAll() // it has expired
	copied(0, false)
}
