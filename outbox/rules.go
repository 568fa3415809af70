package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// RuleSet is one version of the rule file.
type RuleSet struct {
	Version    int       `json:"version"` // from 1; 0 is none
	Digest     string    `json:"digest"`
	YAML       string    `json:"-"`
	Generation int       `json:"generation"`
	Since      uint64    `json:"since"` // end LSN of the store when it took effect
	At         time.Time `json:"at"`
}

const ruleColumns = `version, digest, yaml, generation, since, at`

func scanRules(row pgx.Row) (r RuleSet, err error) {
	var since int64
	err = row.Scan(&r.Version, &r.Digest, &r.YAML, &r.Generation, &since, &r.At)
	r.Since, r.At = uint64(since), r.At.UTC()
	return r, err
}

// CurrentRules returns the newest rule set; its Version is 0 before the first.
func (s *Store) CurrentRules(ctx context.Context) (RuleSet, error) { return currentRules(ctx, s.pool) }

func currentRules(ctx context.Context, q querier) (RuleSet, error) {
	r, err := scanRules(q.QueryRow(ctx, `SELECT `+ruleColumns+` FROM banyan.rules ORDER BY version DESC LIMIT 1`))
	if errors.Is(err, pgx.ErrNoRows) {
		return RuleSet{}, nil
	}
	if err != nil {
		return r, fmt.Errorf("read the rules: %w", err)
	}
	return r, nil
}

// RulesVersion returns one version of the rules, or ErrNotFound.
func (s *Store) RulesVersion(ctx context.Context, version int) (RuleSet, error) {
	r, err := scanRules(s.pool.QueryRow(ctx, `SELECT `+ruleColumns+` FROM banyan.rules WHERE version = $1`, version))
	if errors.Is(err, pgx.ErrNoRows) {
		return r, fmt.Errorf("rule set %d: %w", version, ErrNotFound)
	}
	if err != nil {
		return r, fmt.Errorf("read rule set %d: %w", version, err)
	}
	return r, nil
}

// PutRules records a rule set that is in effect from this commit on, and
// returns its version; the digest of the current one gives the current version.
// topics names the topic of every aggregate.
func (tx *Tx) PutRules(ctx context.Context, digest, yaml string, topics map[string]string) (int, error) {
	for name, topic := range topics {
		tx.newAggregates[name] = topic
	}
	current, err := currentRules(ctx, tx.conn)
	if err != nil {
		return 0, tx.fail("read the rules", err)
	}
	if current.Version > 0 && current.Digest == digest {
		return current.Version, nil
	}
	version := current.Version + 1
	if _, err := tx.conn.Exec(ctx, `INSERT INTO banyan.rules (version, digest, yaml, generation, since) VALUES ($1, $2, $3, $4, $5)`,
		version, digest, yaml, tx.o.gen, int64(tx.from.End)); err != nil {
		return 0, tx.fail("record the rules", err)
	}
	return version, nil
}
