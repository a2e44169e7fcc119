package verb

// row is what there is to know of a verb: one row here, one in lua/apply.lua.
type row struct {
	code   string // in the script
	effect effect
	answer answer
	// write appends the operands behind the code: the key, then numbers, as
	// pointers into the operation, which spares an allocation each.
	write func(args []any, o *Keyed) []any
}

// effect is what a verb may do to its container.
type effect uint8

const (
	writes effect = iota // it may need memory
	reads                // nothing
	frees                // it can only make it smaller
)

// answer is the form of a verb's result.
type answer uint8

const (
	value    answer = iota // 123
	change                 // 5:8, or 5: where the condition did not hold
	outcomes               // that of a transaction, see tx.go
)

var table = [...]row{
	None:   {},
	Get:    {"g", reads, value, key},
	Inc:    {"i", writes, value, keyAndN},
	Dec:    {"i", writes, value, keyAndNegatedN},
	Set:    {"s", writes, value, keyAndN},
	Del:    {"d", frees, value, key},
	IncIf:  {"I", writes, change, keyNAndCond},
	SetIf:  {"S", writes, change, keyNAndCond},
	Clear:  {"c", frees, value, nothing},
	Apply:  {"t", writes, outcomes, head}, // its once-key's place in KEYS comes before: see Append
	Recall: {"", reads, outcomes, nil},    // never in the script
}

// liftCode is the script's verb for the one Dec that is no Inc of the negated
// number: subtract -2^63.
const liftCode = "m"

// cmps are the script's letters for the comparators.
var cmps = [...]string{Always: "*", Eq: "=", Ne: "!", Lt: "<", Le: "l", Gt: ">", Ge: "g", Absent: "a", Present: "p"}

func nothing(args []any, _ *Keyed) []any { return args }
func key(args []any, o *Keyed) []any     { return append(args, &o.Key) }
func keyAndN(args []any, o *Keyed) []any { return append(args, &o.Key, &o.N) }
func keyNAndCond(args []any, o *Keyed) []any {
	return append(args, &o.Key, &o.N, cmps[o.If.Cmp], &o.If.N)
}

func keyAndNegatedN(args []any, o *Keyed) []any {
	if negated, ok := Sub(0, o.N); ok {
		return append(args, &o.Key, negated)
	}
	args[len(args)-1] = liftCode
	return append(args, &o.Key)
}
