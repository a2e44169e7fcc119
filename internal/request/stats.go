package request

import "time"

// Stats is what there is of a space.
type Stats struct {
	Resident int       // keys in memory
	Queued   int       // strict: calls that wait for a batch; lax: keys that wait for a flush
	Failing  error     // what Redis last failed with; nil while it answers
	Since    time.Time // since when that is so
}
