package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/distkit/distkit-go"
	"github.com/spf13/cobra"
)

// transaction is what became of a transaction.
type transaction struct {
	ID      string  `json:"id"`
	Found   bool    `json:"found"`
	Applied bool    `json:"applied"`
	Replies []reply `json:"replies"`
}

// reply is the reply of a step: a value, or old and new ones, or an error.
type reply struct {
	Value   *int64 `json:"value,omitempty"`
	Old     *int64 `json:"old,omitempty"`
	New     *int64 `json:"new,omitempty"`
	Applied *bool  `json:"applied,omitempty"`
	Error   string `json:"error,omitempty"`
}

// outcome is the command that asks for a transaction.
func outcome(of *settings) *cobra.Command {
	return &cobra.Command{
		Use:   "outcome ID",
		Short: "Show what became of the transaction with an ID",
		Long: `Show what became of the transaction with an ID.

That there is none says that it was not applied by now, or that its Keep (24 hours,
if it was not set) is over, or that Redis has lost it.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			return of.counting(cmd, func(ctx context.Context, system *distkit.System) error {
				ctx, cancel := of.within(ctx)
				defer cancel()
				out, ok, err := system.Strict().Outcome(ctx, args[0])
				if err != nil {
					return err
				}
				told, t := transaction{ID: args[0], Found: ok, Applied: out.Applied, Replies: []reply{}}, table{}
				switch {
				case !ok:
					t.add("no transaction with this ID is known")
				case out.Applied:
					t.add("applied")
				default:
					t.add("not applied: the last step shown has kept it from being")
				}
				for i, r := range out.Replies {
					told.Replies = append(told.Replies, replyOf(r))
					t.add(fmt.Sprintf("step %d: %s", i, replyText(r)))
				}
				return of.print(cmd, t, told)
			})
		},
	}
}

func replyOf(r distkit.Reply) reply {
	switch r := r.(type) {
	case distkit.Value:
		return reply{Value: &r.N}
	case distkit.Change:
		return reply{Old: &r.Old, New: &r.New, Applied: &r.Applied}
	case distkit.Failure:
		return reply{Error: r.Err.Error()}
	default:
		return reply{Error: fmt.Sprintf("a reply of an unknown kind: %T", r)}
	}
}

func replyText(r distkit.Reply) string {
	switch told := replyOf(r); {
	case told.Value != nil:
		return strconv.FormatInt(*told.Value, 10)
	case told.Old != nil && *told.Applied:
		return fmt.Sprintf("%d, was %d", *told.New, *told.Old)
	case told.Old != nil:
		return fmt.Sprintf("its condition did not hold for %d", *told.Old)
	default:
		return told.Error
	}
}
