package distkittest_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/distkittest"
)

// A ticket shop sells each seat once, although Redis loses a reply and goes away.
func Example() {
	t := begin() // in a test this is its t
	defer t.end()

	ctx := context.Background()
	system := distkittest.New(t)
	seats, views := distkit.MustKey("seats"), distkit.MustKey("views")
	if _, err := system.Strict().Set(ctx, seats, 10); err != nil {
		t.Fatal(err)
	}

	system.LoseReply() // the change is made, its reply is lost
	left, err := system.Strict().Dec(ctx, seats, 1)
	fmt.Println("left:", left, err)

	system.Outage()
	err = system.Lax().Add(views, 3) // goes on
	distkittest.Await[distkit.WriterFailed](system)
	_, stored := system.StoredLax(views)
	fmt.Println("views in Redis:", stored, err)

	system.Resume()
	system.Flushed()
	n, _ := system.StoredLax(views)
	fmt.Println("views in Redis:", n)
	// Output:
	// left: 9 <nil>
	// views in Redis: false <nil>
	// views in Redis: 3
}

// outside is a test where there is none.
type outside struct {
	testing.TB
	ends []func()
}

func begin() *outside                          { return &outside{} }
func (*outside) Helper()                       {}
func (*outside) Failed() bool                  { return false }
func (*outside) Logf(text string, args ...any) { fmt.Printf(text+"\n", args...) }
func (*outside) Fatal(args ...any)             { panic(fmt.Sprint(args...)) }
func (*outside) Fatalf(text string, args ...any) {
	panic(fmt.Sprintf(text, args...))
}
func (o *outside) Cleanup(end func()) { o.ends = append(o.ends, end) }
func (o *outside) end() {
	for i := range o.ends {
		o.ends[len(o.ends)-1-i]()
	}
}
