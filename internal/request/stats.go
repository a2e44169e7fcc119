package request

import "time"

// Stats is what there is of a space.
type Stats struct {
	Resident int       // keys in memory
	Woken    int64     // how often one came to life
	Slept    int64     // how often one was put to sleep
	Queued   int       // strict: calls that wait for a batch; lax: keys that wait for a flush
	Failing  error     // what Redis last failed with; nil while it answers
	Since    time.Time // since when that is so
	Oldest   time.Time // lax: when the oldest change was made that is not in Redis; zero if there is none
}
