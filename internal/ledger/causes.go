package ledger

import "errors"

var (
	errLedgerGone = errors.New("redis lost the ledger of the writer (it expired, or was evicted or deleted) while no reply to the batch had come")
	errConflict   = errors.New("another writer has used the ledger of the batch while no reply to it had come")
)
