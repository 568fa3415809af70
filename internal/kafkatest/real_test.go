//go:build slow

package kafkatest_test

import (
	"testing"

	"banyan/internal/kafkatest"
)

func TestRealKafkaKeepsAddressAndDataOverRestartAndKill(t *testing.T) {
	b := kafkatest.NewReal(t)
	keepsData(t, b, func() { b.Restart(t) }, func() { b.Kill(t); b.Start(t) })
}
