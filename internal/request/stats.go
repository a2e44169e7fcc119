package request

import "time"

// Stats is what there is of a space.
type Stats struct {
	Resident int       // keys in memory
	Woken    int64     // how often one came to life
	Slept    int64     // how often one was put to sleep
	Queued   int       // strict: calls that wait for a batch; lax: keys that wait for a flush
	Failing  error     // what Redis last failed with; nil while it answers
	Fails    int       // of several spaces: in how many; Failing and Since are of the one that began first
	Since    time.Time // since when that is so
	Oldest   time.Time // lax: when the oldest change was made that is not in Redis; zero if there is none
}

// Add adds what there is of another space.
func (s *Stats) Add(of Stats) {
	s.Resident += of.Resident
	s.Queued += of.Queued
	s.Woken += of.Woken
	s.Slept += of.Slept
	if s.Oldest.IsZero() || !of.Oldest.IsZero() && of.Oldest.Before(s.Oldest) {
		s.Oldest = of.Oldest
	}
	if of.Failing == nil {
		return
	}
	if s.Fails++; s.Failing == nil || of.Since.Before(s.Since) {
		s.Failing, s.Since = of.Failing, of.Since
	}
}
