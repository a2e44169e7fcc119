// The simulation's plan: what goes wrong in one case, drawn from its seed. A
// case has some of the kinds of faults, not all (swarm testing, Groce et al.,
// ISSTA 2012): faults that always come together hide each other.
package faults_test

import (
	"math/rand/v2"
	"slices"
	"time"
)

// simPlan is the fakePlan of a case. The server's lock guards it.
type simPlan struct {
	sim     *simCase
	rng     *rand.Rand
	chance  float64 // of a fault, a request
	faults  []simFault
	dials   bool // dials fail too
	timeout time.Duration
	watch   simWatch

	healed    bool
	hungUp    bool      // connections were closed whatever was on them
	outage    simOutage // under way, or the zero one
	until     time.Time // its end
	elsewhere string    // the redirection that the first node answers with
	returns   time.Time // until then
	counted   int       // faults so far
}

// simFault is a kind of fault.
type simFault struct {
	name string
	make func(p *simPlan) fakeFate
}

var simFaults = []simFault{
	{"closed unread", func(*simPlan) fakeFate { return fakeFate{hangUp: true, never: true} }},
	{"closed, run late", func(p *simPlan) fakeFate {
		return fakeFate{hangUp: true, before: p.upTo(10 * time.Second), finishes: p.coin()}
	}},
	{"run, closed", func(p *simPlan) fakeFate { return fakeFate{cut: true, finishes: p.coin()} }},
	{"reply cut", func(p *simPlan) fakeFate {
		return fakeFate{cut: true, part: p.rng.Float64(), finishes: p.coin()}
	}},
	{"run slowly", func(p *simPlan) fakeFate {
		return fakeFate{before: p.upTo(2 * p.timeout), finishes: p.coin()}
	}},
	{"answered slowly", func(p *simPlan) fakeFate {
		return fakeFate{after: p.upTo(2 * p.timeout), finishes: p.coin()}
	}},
	{"ignored", func(*simPlan) fakeFate { return fakeFate{never: true, mute: true} }},
	{"run, not answered", func(p *simPlan) fakeFate { return fakeFate{mute: true, finishes: p.coin()} }},
	{"not now", func(p *simPlan) fakeFate {
		return fakeFate{never: true, instead: fakeError(p.oneOf(simTransient))}
	}},
	{"refused", func(p *simPlan) fakeFate {
		return fakeFate{never: true, instead: fakeError(p.oneOf(simRefusals))}
	}},
	{"nonsense", func(p *simPlan) fakeFate { return fakeFate{never: true, instead: p.oneOf(simNonsense)} }},
	{"run, nonsense", func(p *simPlan) fakeFate { return fakeFate{instead: p.oneOf(simNonsense)} }},
	{"script lost", func(p *simPlan) fakeFate {
		clear(p.sim.server.data.scripts)
		return fakeFate{}
	}},
	{simRedirected, func(p *simPlan) fakeFate {
		// The slot is elsewhere for a while, not for one request only: a
		// pipeline is redirected as a whole.
		p.elsewhere = fakeError(p.oneOf(simRedirections))
		p.returns = time.Now().Add(time.Millisecond + p.upTo(100*time.Millisecond))
		return p.redirection()
	}},
}

// The nodes of a cluster, which share their data.
var simNodes = []string{"10.0.0.1:1", "10.0.0.2:1"} // go-redis looks names up

const (
	simRedirected = "redirected"
	simTryAgain   = "TRYAGAIN Multiple keys request during rehashing of slot"
)

var (
	simTransient = []string{
		"LOADING Redis is loading the dataset in memory",
		"READONLY You can't write against a read only replica.",
		"BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
		"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
		"CLUSTERDOWN The cluster is down",
		simTryAgain,
		"NOREPLICAS Not enough good replicas to write.",
		"ERR max number of clients reached",
		"NOTWRITTEN MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
		"NOTWRITTEN @user_script: 114: -NOREPLICAS Not enough good replicas to write.",
	}
	simRefusals = []string{
		"OOM command not allowed when used memory > 'maxmemory'.",
		"NOAUTH Authentication required.",
		"NOPERM this user has no permissions to run the 'evalsha' command",
		"MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
		"NOTWRITTEN @user_script: 114: -OOM command not allowed when used memory > 'maxmemory'.",
		"NOTWRITTEN ERR The user executing the script can't run this command or subcommand",
	}
	simRedirections = []string{"MOVED 1 " + simNodes[1], "ASK 1 " + simNodes[1]}
	// Replies that tell nothing of what became of the request.
	simNonsense = []string{
		fakeError("ERR Error running script (call to f_0): @user_script:1: something"),
		fakeError("SOMETHING that no list of errors has"),
		"?what is this\r\n", "+OK\r\n", ":7\r\n", fakeNone, fakeArray(), fakeBulk(""), fakeBulk("Z 1"), fakeBulk("G1 x"),
	}
)

// newSimPlan draws a plan: how much goes wrong, and what.
func newSimPlan(sim *simCase, rng *rand.Rand) *simPlan {
	p := &simPlan{sim: sim, rng: rng, timeout: sim.timeout, watch: simWatch{sim: sim, lanes: map[string]*simLane{}, ops: map[string]*simTried{}, unknown: map[string]bool{}, reborn: map[string]bool{}}}
	p.chance = []float64{0, 0.02, 0.1, 0.3, 0.6}[rng.IntN(5)]
	p.dials = p.coin()
	for _, fault := range simFaults {
		if fault.name == simRedirected && !sim.cluster || p.coin() {
			continue
		}
		p.faults = append(p.faults, fault)
	}
	return p
}

func (p *simPlan) coin() bool                         { return p.rng.IntN(2) == 0 }
func (p *simPlan) upTo(d time.Duration) time.Duration { return time.Duration(p.rng.Int64N(int64(d))) }
func (p *simPlan) oneOf(texts []string) string        { return texts[p.rng.IntN(len(texts))] }
func (p *simPlan) strikes() bool                      { return !p.healed && p.rng.Float64() < p.chance }

func (p *simPlan) dial(addr string) (takes time.Duration, hears int, refused error) {
	hears = -1
	what := ""
	switch {
	case p.outage == simDown:
		what, refused = "refused", errFakeRefused
	case !p.dials || !p.strikes():
		return 0, hears, nil
	default:
		switch p.rng.IntN(4) {
		case 0:
			what, refused = "refused", errFakeRefused
		case 1:
			what, takes = "hangs", time.Hour
		case 2:
			what, takes = "slow", p.upTo(1500*time.Millisecond) // the client's patience is 1 s
		default:
			what, hears = "deaf", p.rng.IntN(2000)
		}
	}
	p.counted++
	p.sim.did("fault: dial " + what)
	p.sim.note("dial to %s: %s", addr, what)
	return takes, hears, refused
}

// simOutage is something that befalls the server as a whole for a while.
type simOutage string

const (
	simDown    simOutage = "down"  // no connection
	simHangs   simOutage = "hangs" // takes requests, carries them out when it is over
	simLoading simOutage = "loading"
	simReplica simOutage = "replica"
	simFull    simOutage = "full"   // reads, and what needs no memory, pass
	simMoving  simOutage = "moving" // what has one key only passes
)

var simOutages = []simOutage{simDown, simHangs, simLoading, simReplica, simFull, simMoving}

func (p *simPlan) fate(c *fakeConn, r fakeRequest, ticket any) fakeFate {
	var f fakeFate
	redirects := c.addr == simNodes[0] && slices.Contains([]string{"eval", "evalsha", "hmget", "mget", "pttl"}, r.name())
	switch {
	case p.outage == simHangs:
		f = fakeFate{name: "hangs", before: time.Until(p.until), finishes: true}
	case p.outage == simLoading:
		f = fakeFate{name: "loading", never: true, instead: fakeError(simTransient[0])}
	case p.outage == simReplica:
		f = fakeFate{name: "replica", never: true, instead: fakeError(simTransient[1])}
	case p.outage == simMoving && ticket.(*simArrival).keys > 1:
		f = fakeFate{name: "moving", never: true, instead: fakeError(simTryAgain)}
	case redirects && time.Now().Before(p.returns):
		f = p.redirection()
	case r.name() == "asking": // a node that refuses it does not run what follows it either
	case len(p.faults) > 0 && p.strikes():
		if fault := p.faults[p.rng.IntN(len(p.faults))]; fault.name != simRedirected || redirects {
			f = fault.make(p)
			f.name = fault.name
		}
	}
	if f.name != "" {
		p.counted++
		p.sim.did("fault: " + f.name)
		if r.name() == "pttl" { // which may be answered, with something else
			p.sim.blind.Add(1)
		}
	}
	p.sim.noteRequest(c, ticket.(*simArrival), f)
	return f
}

func (p *simPlan) redirection() fakeFate {
	return fakeFate{name: simRedirected, never: true, instead: p.elsewhere}
}

func (p *simPlan) arrived(_ *fakeConn, r fakeRequest) any { return p.watch.arrived(r) }

func (p *simPlan) executed(_ fakeRequest, ticket any, reply string) {
	p.watch.executed(ticket.(*simArrival), reply)
}

func (p *simPlan) answering(_ fakeRequest, ticket any, reply string) {
	p.watch.answering(ticket.(*simArrival), reply)
}

func (p *simPlan) failed(_ fakeRequest, ticket any) { p.watch.failed(ticket.(*simArrival)) }
