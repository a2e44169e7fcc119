package redisio_test

import (
	"testing"

	"github.com/distkit/distkit-go/internal/redistest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	redistest.Main(m, func() error { return goleak.Find() })
}
