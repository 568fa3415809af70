package wal

import (
	"bufio"
	"io"
	"time"
)

// A walsender sends every small message by itself, and each one wakes a reader
// that sleeps on the socket: with many small transactions the wake-ups cost the
// server more than the decoding. So a reader that has come for more very often
// within a moment lets the next messages gather before it reads again. It costs
// at most pacePause of latency, and only at rates where a message comes every
// 100 microseconds or less; below that nothing is delayed.
const (
	paceWindow = time.Millisecond
	paceReads  = 10 // reads in a window that make it a busy one
	pacePause  = time.Millisecond
	paceBytes  = 4 << 10 // what a pause must bring for another one
)

// pacedReader reads from a connection in large parts while much is coming.
type pacedReader struct {
	r     io.Reader
	since time.Time // when the window began
	reads int
	busy  bool // the last pause was worth it
}

func newPacedReader(r io.Reader) io.Reader {
	return bufio.NewReaderSize(&pacedReader{r: r}, readBuffer)
}

func (p *pacedReader) Read(b []byte) (int, error) {
	if !p.busy {
		now := time.Now()
		if now.Sub(p.since) > paceWindow {
			p.since, p.reads = now, 0
		}
		p.reads++
		p.busy = p.reads > paceReads
	}
	if p.busy {
		time.Sleep(pacePause)
	}
	n, err := p.r.Read(b)
	if p.busy && n < paceBytes {
		p.busy, p.reads = false, 0
	}
	return n, err
}
