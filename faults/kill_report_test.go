// What a process that is about to be killed reports through a pipe, such that
// whatever of it the parent can read is true: each record is one write(2), a
// start before the operation, an end after it was acknowledged.
package faults_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"time"
)

// killKind is what a record says.
type killKind byte

// The kinds of records. Key is the index of a counter, n an amount or a reply.
const (
	killStrictStart killKind = 's' // an Inc by 1 is called
	killStrictEnd   killKind = 'S' // it answered n
	killPairStart   killKind = 'p' // an IncAll of two keys by 1 is called
	killPairEnd     killKind = 'P'
	killTxStart     killKind = 't' // the transaction number n is called, key is 1 if it cannot be applied
	killTxEnd       killKind = 'T' // its outcome was told
	killLaxStart    killKind = 'l' // n increments of a lax key are called
	killLaxEnd      killKind = 'L' // they were accepted, at the latest at this time
	killFlushStart  killKind = 'f' // the n-th Flush is called
	killFlushEnd    killKind = 'F' // it succeeded
	killCallStart   killKind = 'r' // the lax writer's call number n to Redis is about to leave
	killCallEnd     killKind = 'R' // it has returned; key is killWritten if it wrote, and could, killOpened if it opened a lane
	killBeat        killKind = 'b' // a goroutine that wakes every millisecond did
)

// killWritten marks a call that wrote, killOpened one that opened a lane.
const (
	killWritten = 1 + iota
	killOpened
)

// killRecord is one record.
type killRecord struct {
	kind killKind
	key  byte
	n    int64
	at   time.Duration // since the child began
}

const killRecordSize = 2 + 8 + 8 // far below PIPE_BUF: a write is whole, or nothing

// killPipe is the child's end.
type killPipe struct {
	*os.File
	began time.Time
}

// tell writes a record. Without a parent there is nothing left to do.
func (p *killPipe) tell(kind killKind, key int, n int64) {
	var b [killRecordSize]byte
	b[0], b[1] = byte(kind), byte(key)
	binary.LittleEndian.PutUint64(b[2:], uint64(n))
	binary.LittleEndian.PutUint64(b[10:], uint64(time.Since(p.began)))
	if _, err := p.Write(b[:]); err != nil {
		fmt.Fprintln(os.Stderr, "the parent is gone:", err)
		os.Exit(3)
	}
}

// readKillRecords reads until the child is gone, and calls see for each record.
func readKillRecords(from *os.File, see func(killRecord)) error {
	buffer := make([]byte, 0, 64<<10)
	for {
		n, err := from.Read(buffer[len(buffer):cap(buffer)])
		buffer = buffer[:len(buffer)+n]
		for len(buffer) >= killRecordSize {
			b := buffer[:killRecordSize]
			see(killRecord{
				kind: killKind(b[0]), key: b[1],
				n:  int64(binary.LittleEndian.Uint64(b[2:])),
				at: time.Duration(binary.LittleEndian.Uint64(b[10:])),
			})
			buffer = buffer[killRecordSize:]
		}
		if err != nil {
			if len(buffer) > 0 {
				return fmt.Errorf("%d bytes of a torn record", len(buffer))
			}
			return nil
		}
		buffer = append(make([]byte, 0, 64<<10), buffer...)
	}
}
