package outbox

import "testing"

// The vectors are those of Kafka's own test of its Utils.murmur2.
func TestMurmur2IsThatOfTheJavaClients(t *testing.T) {
	for key, want := range map[string]int32{
		"21":                         -973932308,
		"foobar":                     -790332482,
		"a-little-bit-long-string":   -985981536,
		"a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	} {
		if got := murmur2(key); got != want {
			t.Errorf("murmur2(%q) = %d, want %d", key, got, want)
		}
		if got, want := PartitionOf(key, 6), int(uint32(want)&0x7fffffff)%6; got != want {
			t.Errorf("PartitionOf(%q, 6) = %d, want %d", key, got, want)
		}
	}
}
