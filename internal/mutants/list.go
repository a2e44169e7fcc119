package main

// mutant is one sabotage: a text of a file replaced by another, and the test
// that must notice.
type mutant struct {
	name     string
	file     string
	old, new string
	pkg, run string
}

const (
	script      = "lua/apply.lua"
	gateway     = "internal/store/store.go"
	strictFile  = "actors/strict_writer.go"
	flushFile   = "actors/coordinator.go"
	laxFlush    = "actors/lax_flush.go"
	rootPackage = "."
)

// mutants are what the suite must kill, all of them.
var mutants = []mutant{
	{"drop the ledger check", script,
		"if seq == last then", "if false then",
		"./internal/store", "TestApply_numbers"},
	{"drop the gap check", script,
		"if seq ~= last + 1 then", "if false then",
		"./internal/store", "TestApply_numbers"},
	{"apply a number again", script,
		"local opened = redis.pcall('SET', ledger, ARGV[1] .. ' ', 'PX', ARGV[2])", "local opened = redis.pcall('SET', ledger, (seq - 1) .. ' ', 'PX', ARGV[2])",
		rootPackage, "TestReplyLost_appliesOnce"},
	{"keep no results for a replay", script,
		"pcall('APPEND', ledger, results)", "",
		rootPackage, "TestReplyLost_appliesOnce"},
	{"replace pcall by call", script,
		"local pcall = redis.pcall", "local pcall = redis.call",
		rootPackage, "TestCounter_badFields_failAloneInABatch"},
	{"return Lua numbers", script,
		"if r > -9007199254740992 and r < 9007199254740992 then return format('%.0f', r) end\n  return redis.call('HGET', container, field)", "return format('%.0f', r)",
		rootPackage, "TestCounter_int64_isExactToItsEnds"},
	{"compare as doubles", script,
		"local na, nb = sub(a, 1, 1) == '-', sub(b, 1, 1) == '-'", "if true then return tonumber(a) < tonumber(b) end\n  local na, nb",
		rootPackage, "TestCounter_conditions"},
	{"write the ledger after the operations fail for want of memory", script,
		"if type(opened) == 'table' and opened.err then\n  return opened\nend", "",
		"./internal/store", "TestApply_outOfMemory_changesNothing"},
	{"never let the ledger expire", script,
		", 'PX', ARGV[2])", ")",
		"./internal/store", "TestApply_numbers"},
	{"allow the client to retry", gateway,
		"func (*command) NoRetry() bool { return true }", "func (*command) NoRetry() bool { return false }",
		"./internal/store", "TestSend_isOneAttempt_whateverTheClientsRetries"},
	{"delete the ledger on shutdown", gateway,
		`"pexpire", ledger, retiredTTL.Milliseconds()`, `"pexpire", ledger, 0`,
		rootPackage, "TestShutdown_writesEverythingAccepted"},
	{"freeze before a connection is there", gateway,
		"return &command{Cmd: redis.NewCmd(ctx, args...), call: call}", "cmd := &command{Cmd: redis.NewCmd(ctx, args...), call: call}\n\tcmd.Args()\n\treturn cmd",
		"./internal/store", "TestSend_freezesWhenItIsWritten"},
	{"take OOM for unknown", "internal/store/classify.go",
		`{"OOM", Refused},`, "",
		"./internal/store", "TestClassify_everyRowOfTheDesign"},
	{"take EOF for not applied", "internal/store/classify.go",
		"\t\terrors.Is(err, redis.ErrClosed),", "\t\terrors.Is(err, redis.ErrClosed), errors.Is(err, io.EOF),",
		rootPackage, "TestReplyLost_laterOperationsWaitBehindTheBatch"},
	{"reuse a sequence number", "actors/writer.go",
		"l.acked, l.used = call.Seq, time.Now().Round(0)", "l.used = time.Now().Round(0)",
		rootPackage, "TestCounter_operations_answerTheValue"},
	{"new writer id after a restart", strictFile,
		"\tcase a.batch != nil:\n\t\ta.send()", "\tcase a.batch != nil:\n\t\ta.lane = newLane()\n\t\ta.batch.call.Writer, a.batch.call.Seq = a.lane.id, 1\n\t\ta.send()",
		rootPackage, "TestReplyLost_appliesOnce"},
	{"thaw a batch that may be in", strictFile,
		"if !batch.ambiguous && (call.Class.NotApplied() || !call.Left()) {", "if true {",
		rootPackage, "TestReplyLost_laterOperationsWaitBehindTheBatch"},
	{"forget the batch on a restart", strictFile,
		"\tcase a.batch != nil:\n\t\ta.send()", "\tcase a.batch != nil:\n\t\ta.batch = nil",
		rootPackage, "TestReplyLost_appliesOnce"},
	{"swallow the gap", "actors/writer.go",
		"observer.DataLost(writer, l.acked, call.Last)", "_ = observer",
		rootPackage, "TestLedgerLost_isAnEvent_andCountingGoesOn"},
	{"drop folded deltas when a round fails", flushFile,
		"\tcase failed != nil:\n", "\tcase failed != nil:\n\t\ta.round = nil\n",
		rootPackage, "TestReplyLost_appliesOnce"},
	{"drop a refused change in silence", laxFlush,
		"a.flush.observer.DeltaRefused(a.key, c.amount(), c.verb == assign, err)", "",
		rootPackage, "TestLax_refusedChange_isSetAsideAndReported"},
	{"keep pending through a Del", laxFlush,
		"m := &mutation{change: change{verb: remove}, request: r, dropped: a.open.change, barriers: a.open.barriers}\n\ta.open = mutation{}", "m := &mutation{change: change{verb: remove}, request: r, dropped: a.open.change}",
		rootPackage, "TestLax_del_returnsPendingAndDropsIt"},
	{"stop without a flush", "actors/drain.go",
		"refused, err := e.flushAll(ctx, lax)", "refused, err := []Unflushed(nil), error(nil)",
		rootPackage, "TestShutdown_writesEverythingAccepted"},
	{"take operations while shutting down", "actors/mailbox.go",
		"m.sealed = true", "m.sealed = false",
		rootPackage, "TestShutdown_duringCalls_acceptsOrRefusesEachOne"},
	{"forget who a panic interrupted", "actors/lax.go",
		"\tif r := a.serving; r != nil {", "\tif r := a.serving; false {",
		"./actors", "TestPanicAtEveryStep"},
	{"forget the message a panic interrupted", "actors/lax.go",
		"\tswitch message := a.current.(type) {", "\tswitch message := any(nil).(type) {",
		"./actors", "TestPanicAtEveryStep"},
	{"deliver again from the start after a panic", strictFile,
		"\t\tb.delivered++\n", "",
		"./actors", "TestPanic"},
	{"let a stopped actor swallow its queue", "actors/mailbox.go",
		"m.setSuspended(true) // a stopped", "m.setSuspended(false) // a stopped",
		"./actors", "TestMailbox_stopped_keepsMessagesForDrain"},
	{"send a revoked call", gateway,
		"\treturn c.Left()\n", "\treturn true\n",
		rootPackage, "TestShutdownGivenUp"},
	{"retry at once", "actors/supervisor.go",
		"step := b.Min", "step := time.Duration(0)",
		"./actors", "TestBackoff_delays"},
	{"lose the order of negative numbers", script,
		"if na then a, b = sub(b, 2), sub(a, 2) end", "if na then a, b = sub(a, 2), sub(b, 2) end",
		rootPackage, "TestCounter_conditions"},
}
