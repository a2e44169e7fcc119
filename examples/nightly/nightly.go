// Package nightly copies a day's counters from Redis to a table of a SQL database, as a
// job does after midnight. It can be run again for any day that is still kept.
package nightly

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/distkit/distkit-go"
)

// Schema is the table.
const Schema = `CREATE TABLE IF NOT EXISTS usage (
	day    TEXT    NOT NULL,
	tenant TEXT    NOT NULL,
	calls  INTEGER NOT NULL,
	PRIMARY KEY (day, tenant)
)`

// Copy replaces what the table has of the day that holds t by what the day's counters
// hold, in one transaction: who reads the table sees the old rows or the new ones. It
// returns how many rows there are. A day that has expired in Redis leaves the table as
// it is.
func Copy(ctx context.Context, db *sql.DB, daily *distkit.Windows, t time.Time) (rows int, err error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, ended(tx.Rollback())) }()
	day := t.Format(time.DateOnly)
	insert, err := tx.PrepareContext(ctx, `INSERT INTO usage (day, tenant, calls) VALUES (?, ?, ?)
		ON CONFLICT (day, tenant) DO UPDATE SET calls = excluded.calls`)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, insert.Close()) }()
	for entry, err := range daily.At(t).All(ctx) {
		if err != nil {
			return 0, err
		}
		if rows == 0 { // there is something in place of what was copied before
			if _, err := tx.ExecContext(ctx, `DELETE FROM usage WHERE day = ?`, day); err != nil {
				return 0, err
			}
		}
		if _, err := insert.ExecContext(ctx, day, entry.Key.String(), entry.N); err != nil {
			return 0, err
		}
		rows++
	}
	return rows, tx.Commit()
}

// ended is the error of a rollback, which is none after a commit.
func ended(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
}
