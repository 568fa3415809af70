package control

import (
	"context"
	"testing"

	"banyan/internal/pgtest"
)

func TestSmoke(t *testing.T) {
	ctx := context.Background()
	db := pgtest.New(t)
	s, err := Open(ctx, db.Pool(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
}
