package main_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

// session is one user of the shop: orders, payments, cancellations, moves, new
// customers, and now and then a transaction that rolls back. It returns how
// many transactions it committed.
func (h *house) session(ctx context.Context, seed int) int {
	rng := rand.New(rand.NewPCG(uint64(seed), 7))
	committed := 0
	for ctx.Err() == nil {
		conn, err := pgx.Connect(ctx, h.source.URL)
		if err != nil {
			select { // the server is being restarted
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
			continue
		}
		for ctx.Err() == nil {
			if err := shopping(ctx, conn, rng); err != nil {
				break
			}
			committed++
		}
		conn.Close(context.WithoutCancel(ctx))
	}
	return committed
}

// shopping is one transaction.
func shopping(ctx context.Context, conn *pgx.Conn, rng *rand.Rand) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	switch n := rng.IntN(10); {
	case n < 5:
		err = placeOrder(ctx, tx, rng)
	case n < 8:
		status := []string{"paid", "shipped", "cancelled"}[rng.IntN(3)]
		_, err = tx.Exec(ctx, `UPDATE orders SET status = $1 WHERE id = (SELECT id FROM orders ORDER BY id DESC OFFSET $2 LIMIT 1)`, status, rng.IntN(30))
	case n < 9:
		_, err = tx.Exec(ctx, `UPDATE customers SET name = $1, updated_at = now() WHERE id = $2`, fmt.Sprintf("name %d", rng.Int()), 1+rng.IntN(20))
	default:
		_, err = tx.Exec(ctx, `INSERT INTO customers (name) VALUES ($1)`, fmt.Sprintf("new %d", rng.Int()))
	}
	if err != nil {
		return err
	}
	if rng.IntN(12) == 0 {
		return tx.Rollback(ctx)
	}
	return tx.Commit(ctx)
}

// placeOrder is an order over several tables, with a savepoint that goes wrong
// now and then.
func placeOrder(ctx context.Context, tx pgx.Tx, rng *rand.Rand) error {
	var id int
	if err := tx.QueryRow(ctx, `INSERT INTO orders (customer_id, status, total, note) VALUES ($1, 'placed', $2, $3) RETURNING id`,
		1+rng.IntN(20), rng.IntN(1000), fmt.Sprint(rng.Int())).Scan(&id); err != nil {
		return err
	}
	lines := 1 + rng.IntN(4)
	first := 1 + rng.IntN(16)
	for l := range lines {
		// Products in order, so that two orders never wait for each other.
		if _, err := tx.Exec(ctx, `INSERT INTO order_items VALUES ($1, $2, $3, $4, 2.5)`, id, l+1, first+l, 1+rng.IntN(5)); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE products SET stock = stock - 1 WHERE id = $1`, first+l); err != nil {
			return err
		}
	}
	if rng.IntN(5) > 0 {
		return nil
	}
	sub, err := tx.Begin(ctx)
	if err != nil {
		return err
	}
	if _, err := sub.Exec(ctx, `UPDATE orders SET note = 'never' WHERE id = $1`, id); err != nil {
		return err
	}
	return sub.Rollback(ctx)
}
