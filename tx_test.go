package distkit_test

import (
	"testing"

	"github.com/distkit/distkit-go"
	"github.com/stretchr/testify/require"
)

func TestTx_smoke(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := f.Strict()
	_, err := s.Set(f.ctx, keyA, 100)
	require.NoError(t, err)
	tx := distkit.Tx{ID: "one", Steps: []distkit.Step{
		{keyA, distkit.IncIf{If: distkit.Ge(60), N: -60}},
		{keyB, distkit.Inc{N: 60}},
		{keyA, distkit.Get{}},
	}}
	out, err := s.Apply(f.ctx, tx)
	require.NoError(t, err)
	t.Logf("%+v", out)
	out, err = f.another(t).Strict().Apply(f.ctx, tx)
	require.NoError(t, err)
	t.Logf("%+v", out)
	o, found, err := s.Outcome(f.ctx, "one")
	t.Logf("%+v %v %v", o, found, err)
	o, found, err = s.Outcome(f.ctx, "two")
	t.Logf("%+v %v %v", o, found, err)
	tx.ID = "two"
	out, err = s.Apply(f.ctx, tx)
	require.NoError(t, err)
	t.Logf("%+v", out)
	tx.Steps[0].Do = distkit.Get{}
	_, err = s.Apply(f.ctx, tx)
	t.Log(err)
	t.Log(f.stored(t, "strict_counter", keyA), f.stored(t, "strict_counter", keyB), f.client.Get(f.ctx, f.prefix+":once:{"+f.prefix+":strict_counter}:one"))
}
