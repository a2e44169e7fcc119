package faults_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/chaos"
	"github.com/stretchr/testify/require"
)

// Transactions of a process that is killed: another one repeats, under their IDs, those
// of which it does not know what became, and each is in once.

var (
	killFrom = distkit.MustKey("from")
	killTo   = distkit.MustKey("to")
)

// killTx is the transaction with a number: it moves 1, or is not applied.
func killTx(number int64, fails bool) distkit.Tx {
	tx := distkit.Tx{ID: fmt.Sprint("tx-", number), Keep: time.Hour, Steps: []distkit.Step{
		{Key: killFrom, Do: distkit.Dec{N: 1}}, {Key: killTo, Do: distkit.Inc{N: 1}},
	}}
	if fails {
		tx.Steps = append(tx.Steps, distkit.Step{Key: killFrom, Do: distkit.IncIf{If: distkit.Gt(0), N: 1}})
	}
	return tx
}

// checkTxs compares the report of transactions with Redis, and repeats some of those
// that were acknowledged, and all others.
func (c *killChild) checkTxs(t *testing.T, run *chaos.Run) {
	t.Helper()
	type known struct{ fails, told bool }
	txs, started, told := map[int64]known{}, int64(0), int64(0)
	for _, r := range c.records {
		switch tx := (known{r.key == 1, r.kind == killTxEnd}); r.kind {
		case killTxStart, killTxEnd:
			run.Cases(1)
			txs[r.n] = tx
			switch {
			case tx.fails:
			case tx.told:
				told++
			default:
				started++
			}
		default:
		}
	}
	if from, to := c.wallets(t); from != -to || to < told || to > started {
		run.Violation("%d were taken and %d put; %d transactions were acknowledged, %d begun", -from, to, told, started)
	}
	system, err := distkit.NewSystem(c.client, distkit.WithPrefix(distkit.MustKey(c.prefix)), distkit.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), serverPatience)
	defer cancel()
	sample := 50
	for number, tx := range txs { // in any order
		if tx.told {
			if sample--; sample < 0 {
				continue
			}
		}
		_, found, err := system.Strict().Outcome(ctx, killTx(number, false).ID)
		require.NoError(t, err)
		out, err := system.Strict().Apply(ctx, killTx(number, tx.fails))
		require.NoError(t, err)
		if out.Applied == tx.fails || out.Replayed != found || tx.told && !found {
			run.Violation("transaction %d %+v: an outcome is there: %v; repeated it is %+v", number, tx, found, out)
		}
	}
	require.NoError(t, system.Shutdown(ctx))
	if from, to := c.wallets(t); from != -started || to != started {
		run.Violation("of %d transactions, each repeated until it was in, %d took and %d put", started, -from, to)
	}
}

func (c *killChild) wallets(t *testing.T) (from, to int64) {
	t.Helper()
	strict := serverStored(t, c.client, c.prefix, "strict_counter")
	return strict[killFrom.String()], strict[killTo.String()]
}
