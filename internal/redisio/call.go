package redisio

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/distkit/distkit-go/internal/verb"
)

// Task says what a call asks of Redis.
type Task uint8

// The tasks.
const (
	Apply  Task = iota // apply the operations as the lane's batch of this number
	Bare               // apply the operations without a ledger: never to be sent again
	Read               // read the keys of the operations, by a plain command
	Scan               // list a few of the fields, from Cursor on, by a plain command
	Recall             // read the outcomes of transactions, by a plain command
	Open               // begin the lane
	Fence              // let no batch pass the lane any more, and say where it stood
	Retire             // shorten the life of the lane's ledger
)

// Call is what is to be sent and, after an attempt, how that ended.
type Call struct {
	Task     Task
	At       *Container
	Writer   string        // the lane's id, which names its ledger
	Seq      int64         // the batch's number
	Nonce    uint64        // its nonce
	Previous uint64        // the nonce of the batch before it, or of the opening, for Open too
	Lifetime time.Duration // of the ledger
	Text     bool          // send the script's text, not its hash
	OverFull bool          // run even if memory is full, where Redis can
	Unmarked bool          // leave no mark of an emptied container
	Replicas Replicas      // which are to have the batch, if any
	Known    bool          // there was a container: if there is none, ask who emptied it
	Cursor   uint64        // of a Scan: the Next of the one before, 0 for the first

	// Ops are the operations, which do not change once the call has left. Until
	// then Gather, where it is set, gives them for each attempt, and Claim makes
	// them final when the first byte is about to be written; false keeps the call
	// from leaving.
	Ops     []verb.Keyed
	Gather  func() []verb.Keyed
	Claim   func() bool
	fate    atomic.Int32
	merged  *verb.Merged // of Ops, as last written
	passage *passage     // of an attempt that can be ended, or nil

	Reply
}

// Replicas are how many are to have a batch, and how long that is waited for.
type Replicas struct {
	N      int
	Within time.Duration
}

// Status is what the script answered.
type Status uint8

// The statuses.
const (
	None     Status = iota // nothing: Class says why
	Done                   // the batch is in, or the reads or the Scan are answered
	Gap                    // the ledger stands before the number that comes before the batch's
	Conflict               // the lane is somebody else's as well
	Opened
	Fenced
)

// NoLedger is the Last of a ledger that is not there.
const NoLedger = -1

// Reply is how an attempt at a call ended.
type Reply struct {
	Class  Class
	Stayed bool  // NotYet, as a caller had withdrawn, or it was revoked: that says nothing of Redis
	Err    error // the cause, where Class is not Answered
	Status Status

	Results   []verb.Result // one an operation, where Status is Done; see verb.ParseOnce of a Recall
	Last      int64         // Gap, Fenced: where the ledger stands, or NoLedger
	LastNonce uint64        // Fenced: the nonce of its last batch

	Replicated    int     // how many replicas have it, where Replicas are asked for
	NotReplicated error   // why that is not known; nil if it is
	Fields        []Field // what a Scan has found
	Next          uint64  // the Cursor of the next one; 0 if this was the last

	Replayed bool // Done by an earlier attempt
	Repeated bool // somebody has sent the call several times at this attempt
	Existed  bool // there was a container when the call came
	Before   bool // and when the batch came first
	Kept     bool // and when it had been applied

	Emptied    bool          // the container has vanished, and somebody emptied it on purpose,
	EmptiedAgo time.Duration // so long ago
}

// Field is a field of the container, and what a read of it answers.
type Field struct {
	Key string
	verb.Result
}

// Vanished reports whether there was no container where one had been: since the
// batch was applied that is replayed, or to the knowledge of who sent the call.
func (c *Call) Vanished() bool {
	switch {
	case !c.batch():
		return false
	case c.Status == Done:
		return c.VanishedSince() || !c.Before && c.Known
	default:
		return c.Status == Gap && !c.Existed && c.Known
	}
}

// VanishedSince reports whether there is no container where the batch that is replayed
// had left one.
func (c *Call) VanishedSince() bool { return c.Replayed && c.Kept && !c.Existed }

// A call's fate: at first it is here.
const (
	here    int32 = iota
	leaving       // an attempt is about to be written
	left          // an attempt came as far as being written
	revoked       // none ever will
)

// HasLeft reports whether any attempt came as far as being written. Until then
// nothing of the call can have been applied.
func (c *Call) HasLeft() bool { return c.fate.Load() == left }

// Revoke keeps a call that has not left from ever leaving, even if an attempt
// is waiting for a connection; false if it has left, or is about to.
func (c *Call) Revoke() bool {
	return c.fate.CompareAndSwap(here, revoked) || c.fate.Load() == revoked
}

// Leave is called by a Sender when an attempt is about to be written; false if it must not be.
func (c *Call) Leave() bool {
	if c.HasLeft() || !c.batch() {
		return true
	}
	if !c.fate.CompareAndSwap(here, leaving) {
		return false
	}
	if c.Claim != nil && !c.Claim() {
		c.fate.Store(here)
		return false
	}
	c.fate.Store(left)
	return true
}

// lives is how long the ledger lives, and when the container expires, for the script.
func (c *Call) lives() any {
	if c.At.Expires.IsZero() {
		return c.Lifetime.Milliseconds()
	}
	return fmt.Sprint(c.Lifetime.Milliseconds(), " ", c.At.Expires.UnixMilli())
}

// batch reports whether the call carries operations that change something.
func (c *Call) batch() bool { return c.Task == Apply || c.Task == Bare }

// empties reports whether an operation can empty the container.
func (c *Call) empties() bool {
	for i := range c.Ops {
		if c.Ops[i].Kind.Frees() {
			return true
		}
	}
	return false
}

// onces are the names of the once-keys of the operations, one for each transaction
// that has an ID, or is to be recalled.
func (c *Call) onces() []string {
	var names []string
	for i := range c.Ops {
		if tx := c.Ops[i].Tx; tx != nil && tx.ID != "" {
			names = append(names, c.At.Once(tx.ID))
		}
	}
	return names
}

// read reads the script's answer; room is for its results.
func (c *Call) read(text string, room []verb.Result) (r Reply, err error) {
	head, rest, _ := strings.Cut(text, " ")
	if len(head) == 0 {
		return r, fmt.Errorf("%w: it is empty", verb.ErrMalformed)
	}
	status, flag := head[0], head[1:]
	r.Existed = flag == "1"
	switch tells := flag == "0" || flag == "1"; {
	case c.Task == Open && text == "O": // not the OK of somebody else's
		r.Status = Opened
	case c.Task == Fence && head == "F-":
		r.Status = Fenced
		err = c.readFence(&r, rest, room)
	case c.Task == Apply && status == 'X' && tells:
		r.Status = Conflict
	case c.Task == Apply && status == 'G' && tells:
		r.Status, r.Last = Gap, NoLedger
		if rest != "-" {
			r.Last, err = strconv.ParseInt(rest, 10, 64)
		}
	case c.batch() && tells && (status == 'A' || status == 'R' && c.Task == Apply):
		r.Status, r.Replayed = Done, status == 'R'
		c.readResults(&r, rest, room)
		if !r.Replayed {
			r.Before = r.Existed
		}
	default:
		err = fmt.Errorf("%w: %.40q", verb.ErrMalformed, text)
	}
	return r, err
}

// readFence reads "<last> <nonce> <kept> <results>"; the latter two of the batch
// that is in.
func (c *Call) readFence(r *Reply, rest string, room []verb.Result) (err error) {
	if rest == "-" {
		r.Last = NoLedger
		return nil
	}
	last, rest, _ := strings.Cut(rest, " ")
	nonce, rest, _ := strings.Cut(rest, " ")
	if r.Last, err = strconv.ParseInt(last, 10, 64); err != nil {
		return fmt.Errorf("%w: %w", verb.ErrMalformed, err)
	}
	if r.LastNonce, err = strconv.ParseUint(nonce, 10, 64); err != nil {
		return fmt.Errorf("%w: %w", verb.ErrMalformed, err)
	}
	if r.Last == c.Seq && r.LastNonce == c.Nonce {
		c.merge()
		c.readResults(r, rest, room)
	}
	return nil
}

// readResults reads "<kept> <results>". Where they cannot be read (a script that
// Redis broke off after its first write), sending the batch again would answer
// the same for ever: the outcome of its operations stays unknown.
func (c *Call) readResults(r *Reply, rest string, room []verb.Result) {
	kept, results, _ := strings.Cut(rest, " ")
	r.Before, r.Kept = kept != "2" && kept != "3", kept == "1" || kept == "3"
	parsed, err := verb.Parse(results, c.Ops, c.merged, room)
	if err != nil {
		parsed = room[:0]
		for range c.Ops {
			parsed = append(parsed, verb.Result{Err: verb.Unknown(err)})
		}
	}
	r.Results = parsed
}

// readOnces reads the reply to MGET. Of no operations one key was read all the same.
func (c *Call) readOnces(reply any) (r Reply, err error) {
	held, ok := reply.([]any)
	if !ok || len(held) != max(1, len(c.Ops)) {
		return r, fmt.Errorf("malformed reply to MGET of %d keys", len(c.Ops))
	}
	r.Status, r.Results = Done, make([]verb.Result, 0, len(held))
	for i := range c.Ops {
		r.Results = verb.ParseOnce(held[i], r.Results)
	}
	return r, nil
}

// readFields reads the reply to HMGET.
func (c *Call) readFields(reply any) (r Reply, err error) {
	fields, ok := reply.([]any)
	if ok && len(fields) > 0 && c.passage != nil {
		fields = fields[1:] // of the passage
	}
	if !ok || len(fields) != max(1, len(c.Ops)) {
		return r, fmt.Errorf("malformed reply to HMGET of %d fields", len(c.Ops))
	}
	r.Status, r.Results = Done, make([]verb.Result, len(c.Ops))
	for i := range r.Results {
		r.Results[i] = verb.ParseField(fields[i])
	}
	return r, nil
}

// readScan reads the reply to HSCAN: the next cursor, and fields and values.
func readScan(reply any) (r Reply, err error) {
	malformed := errors.New("malformed reply to HSCAN")
	parts, _ := reply.([]any)
	if len(parts) != 2 {
		return r, malformed
	}
	cursor, _ := parts[0].(string)
	pairs, ok := parts[1].([]any)
	next, err := strconv.ParseUint(cursor, 10, 64)
	if err != nil || !ok || len(pairs)%2 != 0 {
		return r, malformed
	}
	fields := make([]Field, 0, len(pairs)/2)
	for pair := range slices.Chunk(pairs, 2) {
		key, ok := pair[0].(string)
		if !ok {
			return r, malformed
		}
		fields = append(fields, Field{key, verb.ParseField(pair[1])})
	}
	return Reply{Status: Done, Fields: fields, Next: next}, nil
}
