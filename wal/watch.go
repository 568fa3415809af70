package wal

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// checkPublished makes sure that the publication has all that is captured, and
// has had it ever since the stream was opened.
func (s *Stream) checkPublished(ctx context.Context, conn *pgx.Conn, first bool) error {
	now, err := checkPublication(ctx, conn, s.cfg.Publication, s.cfg.Capture, s.published)
	if err == nil && first {
		s.published = now
	}
	return err
}

// watch looks at the publication now and then. A source that is away is the
// reader's business.
func (s *Stream) watch(ctx context.Context) {
	tick := time.NewTicker(s.cfg.WatchInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if lost := s.lookAtPublication(ctx); lost != nil {
			s.unpublished.Store(lost)
			signal(s.room)
			if w := s.sender.Load(); w != nil {
				w.wake()
			}
			return
		}
	}
}

func (s *Stream) lookAtPublication(ctx context.Context) *PublicationError {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.WatchInterval+connectTimeout)
	defer cancel()
	conn, err := Connect(ctx, s.cfg.URL)
	if err != nil {
		return nil
	}
	defer closeSoon(conn.PgConn())
	lost, _ := errors.AsType[*PublicationError](s.checkPublished(ctx, conn, false))
	return lost
}
