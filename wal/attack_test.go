package wal_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"banyan/internal/pgtest"
	"banyan/wal"
)

// A table that is taken out of the publication while the stream runs sends
// nothing any more, and no sign of it either: the stream must look.
func TestStreamNoticesAPublicationThatLosesATable(t *testing.T) {
	for name, sql := range map[string][]string{
		"taken out":              {`ALTER PUBLICATION pub DROP TABLE a`},
		"taken out and put back": {`ALTER PUBLICATION pub DROP TABLE a`, `INSERT INTO a VALUES (2)`, `ALTER PUBLICATION pub ADD TABLE a`},
		"made anew":              {`ALTER TABLE a RENAME TO old`, `CREATE TABLE a (id int PRIMARY KEY)`},
		"filtered":               {`ALTER PUBLICATION pub SET (publish = 'insert')`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, pgtest.New(t), wal.Capture{"public.a": {"id"}, "public.b": {"id"}}, `CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)`)
			r.cfg.WatchInterval = 50 * time.Millisecond
			s := r.open()
			r.exec(`INSERT INTO a VALUES (1)`)
			r.upTo(s, 1)
			for _, q := range sql {
				r.exec(q)
			}
			r.exec(`INSERT INTO b VALUES (1)`)
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			for {
				_, err := s.Next(ctx)
				if err == nil {
					continue
				}
				var p *wal.PublicationError
				if !errors.As(err, &p) || !strings.Contains(err.Error(), "repair") {
					t.Fatalf("want a *PublicationError that names the way out, got %v", err)
				}
				break
			}
		})
	}
}
