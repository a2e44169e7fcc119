// Package verb is the vocabulary of counters: what an operation is, how it is
// written for the batch script and how its answer is read, and the ways in which
// it can fail. A verb is a row of the table in table.go; its other half is the
// row of the same code in lua/apply.lua. The root package's public messages and
// errors translate to and from it.
package verb

// Kind says what an operation does to its counter.
type Kind uint8

// The kinds. The zero Kind is none of them.
const (
	None   Kind = iota
	Get         // read
	Inc         // add N
	Dec         // subtract N
	Set         // assign N
	Del         // delete; answers the value it had
	IncIf       // add N if the condition holds
	SetIf       // assign N if the condition holds
	Clear       // delete every counter of the container
	Apply       // the head of a transaction: the N operations behind it are its steps
	Recall      // read the outcome of a transaction
)

// Conditional reports whether the kind carries a condition and answers a change.
func (k Kind) Conditional() bool { return table[k].answer == change }

// Reads reports whether the kind changes nothing.
func (k Kind) Reads() bool { return table[k].effect == reads }

// Frees reports whether the kind can only make the container smaller.
func (k Kind) Frees() bool { return table[k].effect == frees }

// Op is one operation on one counter.
type Op struct {
	Kind Kind
	N    int64
	If   Cond
}

// Keyed is an operation and its key, as a batch carries it.
type Keyed struct {
	Key string
	Op
	// Silent marks an Inc of which the value is not needed. It saves Redis a
	// third of the work where the batch is of increments only, the silent ones
	// last; elsewhere an operation may answer its value all the same.
	Silent bool
	// Tx is there for an Apply, and a Recall, which have no key.
	Tx *Tx
}

// Result is what an operation answers. N is the value (for Del the value it
// had); Old and Applied have a meaning for conditional kinds only, Absent for Get
// only: there is no counter, and N is 0. A silent Inc was applied and has no N. With
// Err set, the rest has no meaning.
//
// A transaction answers a result for its head and one for each step. In that of the
// head Applied and Replayed have a meaning, and N is how many steps, from the first,
// answer: all, or those up to the one that failed, if it was not applied.
type Result struct {
	N, Old   int64
	Applied  bool
	Absent   bool
	Silent   bool
	Replayed bool // of a head: the outcome is that of an earlier transaction with the ID
	Kind     Kind // of a step recalled: Get if it answers a value, IncIf if a change
	Err      error
}

// Fail gives every result the same error.
func Fail(results []Result, err error) []Result {
	for i := range results {
		results[i] = Result{Err: err}
	}
	return results
}

// Cmp is a comparator of a condition.
type Cmp uint8

// The comparators. The zero Cmp is none of them.
const (
	noCmp Cmp = iota
	Always
	Eq
	Ne
	Lt
	Le
	Gt
	Ge
	Absent  // there is no counter
	Present // there is one, whatever its value
)

// Cond compares a counter's current value with N, or asks whether it exists.
type Cond struct {
	Cmp Cmp
	N   int64
}

// Valid reports whether c has a comparator; the zero Cond has none.
func (c Cond) Valid() bool { return c.Cmp >= Always && c.Cmp <= Present }

// Holds reports whether the condition holds for a counter of the value v, 0 if it
// does not exist.
func (c Cond) Holds(v int64, exists bool) bool {
	switch c.Cmp {
	case Always:
		return true
	case Eq:
		return v == c.N
	case Ne:
		return v != c.N
	case Lt:
		return v < c.N
	case Le:
		return v <= c.N
	case Gt:
		return v > c.N
	case Ge:
		return v >= c.N
	case Absent:
		return !exists
	case Present:
		return exists
	case noCmp:
	}
	return false
}

// Add returns a + b, and whether the sum is an int64.
func Add(a, b int64) (int64, bool) {
	sum := a + b
	return sum, (sum > a) == (b > 0)
}

// Sub returns a - b, and whether the difference is an int64; it holds for
// every b, math.MinInt64 included, which has no negation.
func Sub(a, b int64) (int64, bool) {
	diff := a - b
	return diff, (diff < a) == (b > 0)
}
