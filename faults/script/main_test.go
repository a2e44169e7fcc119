// Package script holds lua/apply.lua in a real Redis against the one in memory.
package script_test

import (
	"testing"

	"github.com/distkit/distkit-go/internal/redistest"
)

func TestMain(m *testing.M) { redistest.Main(m, func() error { return nil }) }
