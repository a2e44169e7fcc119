package bench

import (
	"fmt"
	"slices"

	"github.com/distkit/distkit-go/bench/report"
)

// Goals are what distkit is to reach, in the order of the table.
func Goals() []report.Goal {
	goals := slices.Concat(strictGoals(), fewGoals(), laxGoals())
	ours := flushName("distkit-add")
	million := GrowthName(1_000_000)
	goals = append(goals, outlivesGoals()...)
	return append(goals,
		report.Goal{What: "p99.9 of lax `Inc` while 100,000 dirty keys are flushed", Case: tailName("distkit-inc"), Metric: report.P999,
			AtMost: true, Limit: 1000, Remark: "of the call itself, 50,000 calls a second"},
		report.Goal{What: "flush of 100,000 dirty keys, against redis-benchmark's pipelined HINCRBY: throughput", Case: ours,
			Rival: flushName(serverOne), Metric: report.Throughput, Limit: 0.95, Remark: "over one connection, 500 a pipeline"},
		report.Goal{What: "the same", Case: ours,
			Rival: flushName(serverMany), Metric: report.Throughput, Limit: 0.85, Remark: "over 50 connections, 500 a pipeline"},
		report.Goal{What: "flush of 100,000 dirty keys, against one EVALSHA a key: throughput", Case: ours,
			Rival: flushName("evalsha-a-key"), Metric: report.Throughput, Limit: 2},
		report.Goal{What: "memory a live lax key, 1,000,000 keys, idle", Case: million, Metric: report.MemoryIdle, AtMost: true, Limit: 620,
			Remark: "the key's own 12 bytes included"},
		report.Goal{What: "the same, busy", Case: million, Metric: report.MemoryBusy, AtMost: true, Limit: 700},
		report.Goal{What: "memory left after passivation, of that of live keys", Case: million, Metric: report.Asleep, Rival: million,
			RivalMetric: report.MemoryIdle, AtMost: true, Limit: 0.05},
		report.Goal{What: "idle system, 1,000,000 known keys: Redis commands in 5 s", Case: million, Metric: report.Commands, AtMost: true, Limit: 0},
		report.Goal{What: "idle system, 1,000,000 known keys: of one core", Case: million, Metric: report.CPU, AtMost: true, Limit: 1},
	)
}

func strictGoals() []report.Goal {
	var goals []report.Goal
	each := func(callers int, rival, metric string, atMost bool, limit float64, remark string, keyCounts ...int) {
		for _, keys := range keyCounts {
			goals = append(goals, report.Goal{
				What: fmt.Sprintf("strict, %s, %s, against %s: %s", plural(callers, "caller"), plural(keys, "key"), rival, metric),
				Case: strictName(callers, keys, "distkit"), Rival: strictName(callers, keys, rival), Metric: metric,
				AtMost: atMost, Limit: limit, Remark: remark,
			})
		}
	}
	each(64, "rueidis", report.Throughput, false, 1, "", keyCounts...)
	each(256, "rueidis", report.Throughput, false, 1.4, "", keyCounts...)
	each(1024, "rueidis", report.Throughput, false, 1.5, "", 1000)
	each(64, "goredis-script", report.Throughput, false, 2.2, "", keyCounts...)
	each(256, "goredis-script", report.Throughput, false, 3.3, "half way between 2.2 and 5, by factors", keyCounts...)
	each(1024, "goredis-script", report.Throughput, false, 5, "", keyCounts...)
	return goals
}

func laxGoals() []report.Goal {
	var goals []report.Goal
	add := func(what, callers string, keys int, ours, rival, metric string, limit float64, remark string) {
		goals = append(goals, report.Goal{
			What: fmt.Sprintf("lax %s, one caller, %s: %s", what, plural(keys, "key"), metric),
			Case: laxName(callers, keys, ours), Rival: rival, Metric: metric, AtMost: true, Limit: limit, Remark: remark,
		})
	}
	const none = 0.05 // the whole process's, so the flusher's few are in it
	for _, keys := range keyCounts {
		mailbox := laxName("1", keys, "protoactor-send")
		for _, way := range []struct{ what, ours string }{{"`Add`", "distkit-add"}, {"`PID.Send(Inc)`", "distkit-send"}} {
			add(way.what, "1", keys, way.ours, "", report.Time, 25, "")
			add(way.what, "1", keys, way.ours, "", report.Allocs, none, "0, but for the flusher's share")
			add(way.what+" against Proto.Actor's mailbox", "1", keys, way.ours, mailbox, report.Time, 0.3, "")
		}
		add("`Inc` with reply", "1", keys, "distkit-inc", "", report.Time, 70, "")
		add("`Inc` with reply", "1", keys, "distkit-inc", "", report.Allocs, none, "0, but for the flusher's share")
		add("`Get`", "1", keys, "distkit-get", "", report.Time, 50, "")
		add("`Get`", "1", keys, "distkit-get", "", report.Allocs, none, "0, but for the flusher's share")
	}
	for _, keys := range keyCounts {
		for _, way := range []struct{ what, ours string }{
			{"`Add`", "distkit-add"}, {"`PID.Send(Inc)`", "distkit-send"}, {"`Inc` with reply", "distkit-inc"}, {"`Get`", "distkit-get"},
		} {
			goals = append(goals, report.Goal{
				What: fmt.Sprintf("lax %s, all cores against one caller, %s: time", way.what, plural(keys, "key")),
				Case: laxName("all", keys, way.ours), Rival: laxName("1", keys, way.ours), Metric: report.Time, AtMost: true, Limit: 2,
				Remark: "a caller's time for an operation",
			})
		}
	}
	return goals
}

func plural(n int, noun string) string {
	switch {
	case n == 1:
		return "1 " + noun
	case n >= 1000:
		return fmt.Sprintf("%d,%03d %ss", n/1000, n%1000, noun)
	default:
		return fmt.Sprintf("%d %ss", n, noun)
	}
}
