package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// giveTokens starts the shop anew, this time with tokens in its answers.
func (t *tour) giveTokens(ctx context.Context) error {
	if err := t.stopNamed("shop"); err != nil {
		return err
	}
	p, err := t.start("shop-with-tokens", t.shop, "serve", "--database", t.source, "--listen", "127.0.0.1:0", "--token-from", t.follows)
	if err != nil {
		return err
	}
	t.target, err = t.waitLine(ctx, p, "listening on ")
	return err
}

// address is a customer's in the shop.
type address struct {
	ID       int    `json:"id,omitempty"`
	Kind     string `json:"kind"`
	Street   string `json:"street"`
	City     string `json:"city"`
	Postcode string `json:"postcode"`
	Country  string `json:"country"`
}

// readOwnWrite moves a customer over REST and asks another service at once where
// the parcels go.
func (t *tour) readOwnWrite(ctx context.Context) error {
	t.title("Read your own write: a customer moves (serve --token-from)")
	if err := t.giveTokens(ctx); err != nil {
		return err
	}
	if _, err := t.token(ctx); err != nil {
		return err
	}
	customer, home, err := t.oneHome(ctx)
	if err != nil {
		return err
	}
	home.Street, home.City, home.Postcode = "7 Harbour Lane", "Whitby", "YO21 3PU"
	path := fmt.Sprintf("/customers/%d/addresses/%d", customer, home.ID)
	id := home.ID
	home.ID = 0
	_, header, err := ask(ctx, http.MethodPut, t.target+path, nil, home, nil, http.StatusNoContent)
	if err != nil {
		return fmt.Errorf("move address %d: %w", id, err)
	}
	token := header.Get(tokenHeader)
	if token == "" {
		return fmt.Errorf("the shop's answer to PUT %s has no token", path)
	}
	wrote := time.Now()
	copied := t.reads + fmt.Sprintf("/in/shipping_addresses/customers/%d", customer)
	var got address
	if _, _, err := ask(ctx, http.MethodGet, copied, map[string]string{tokenHeader: token}, nil, &got, http.StatusOK); err != nil {
		return err
	}
	took := time.Since(wrote)
	if got.Street != home.Street || got.Postcode != home.Postcode {
		return fmt.Errorf("with token %s, shipping_addresses says customer %d lives in %s", token, customer, got.Street)
	}
	say(t.out, fmt.Sprintf("shop      PUT %-25s 204  %s: %s", path, tokenHeader, token))
	say(t.out, fmt.Sprintf("shipping  GET %-25s 200  %s, %s", fmt.Sprintf("/customers/%d", customer), got.Street, got.City))
	generation, _, _ := strings.Cut(token, ":")
	var problem struct{ Passed string }
	if _, _, err := ask(ctx, http.MethodGet, copied, map[string]string{tokenHeader: generation + ":FFFFFFF/0", "Banyan-Wait": "0s"}, nil, &problem, http.StatusServiceUnavailable); err != nil {
		return err
	}
	say(t.out, fmt.Sprintf("          with a token of next year     503  behind: it stands at %s", problem.Passed))
	say(t.out, fmt.Sprintf("another database knew the new address %s after the shop had answered", round(took)))
	return nil
}

// oneHome finds a customer with one address.
func (t *tour) oneHome(ctx context.Context) (int, address, error) {
	for customer := 1; customer <= 40; customer++ {
		var homes struct{ Items []address }
		if _, _, err := ask(ctx, http.MethodGet, fmt.Sprintf("%s/customers/%d/addresses", t.target, customer), nil, nil, &homes, http.StatusOK, http.StatusNotFound); err != nil {
			return 0, address{}, err
		}
		if len(homes.Items) == 1 {
			return customer, homes.Items[0], nil
		}
	}
	return 0, address{}, fmt.Errorf("no customer of the shop has one address")
}

// suspicious are the cards that were tried too often, in the shop's own tables.
const suspicious = `SELECT count(*)::text FROM (
	SELECT FROM payment_attempts GROUP BY card_token, date_bin('5 minutes', attempted_at, '1970-01-01') HAVING count(*) > 3) AS s`

// catchThief tries a stolen card five times within two minutes, and asks the
// service of step one what it has noticed.
func (t *tour) catchThief(ctx context.Context) error {
	t.title("A thief tries a stolen card: five times in two minutes")
	token, err := t.tryCard(ctx, 5)
	if err != nil {
		return err
	}
	caught, err := t.readAt(ctx, token, "card_attempts", `SELECT left(card, 12), attempts::text, declined::text,
		to_char(window_start AT TIME ZONE 'UTC', 'DD Mon HH24:MI') FROM card_attempts.card_attempts_alerts ORDER BY window_start`)
	if err != nil {
		return err
	}
	all, err := t.read(ctx, "projection_card_attempts", `SELECT count(DISTINCT card)::text, sum(attempts)::text FROM card_attempts.card_attempts`)
	if err != nil {
		return err
	}
	for _, c := range caught {
		say(t.out, fmt.Sprintf("card %s... (a hash), from %s on: %s attempts, %s declined", c[0], c[3], c[1], c[2]))
	}
	say(t.out, fmt.Sprintf("%d of %s cards stands out of %s attempts; nobody else is troubled", len(caught), all[0][0], all[0][1]))
	truth, err := t.read(ctx, "shop", suspicious)
	if err != nil {
		return err
	}
	if want := truth[0][0]; fmt.Sprint(len(caught)) != want || len(caught) != 1 {
		return &notProved{fmt.Sprintf("card_attempts names %d cards, the shop's own table %s", len(caught), want)}
	}
	return nil
}

// tryCard places an order as a guest and tries a card on it, every 20 seconds of
// the shop's time. It returns the token of the last answer.
func (t *tour) tryCard(ctx context.Context, times int) (string, error) {
	var products struct {
		Items []struct {
			StockCode string `json:"stockCode"`
			Stock     int    `json:"stock"`
		}
	}
	if _, _, err := ask(ctx, http.MethodGet, t.target+"/products", nil, nil, &products, http.StatusOK); err != nil {
		return "", err
	}
	code := ""
	for _, p := range products.Items {
		if p.Stock > 0 {
			code = p.StockCode
			break
		}
	}
	when := t.firstDay().AddDate(0, 0, t.days).Add(time.Minute)
	at := func(after time.Duration) string { return when.Add(after).Format("2006-01-02T15:04:05") }
	var order struct{ ID int }
	if _, _, err := ask(ctx, http.MethodPost, t.target+"/orders", nil, map[string]any{"country": "United Kingdom", "occurredAt": at(0),
		"lines": []any{map[string]any{"stockCode": code, "quantity": 1}}}, &order, http.StatusCreated); err != nil {
		return "", err
	}
	path := fmt.Sprintf("%s/orders/%d", t.target, order.ID)
	if _, _, err := ask(ctx, http.MethodPost, path+"/validations", nil, map[string]any{"occurredAt": at(0),
		"checks": []any{map[string]any{"type": "details", "result": "passed"}, map[string]any{"type": "fraud", "result": "passed"}}}, nil, http.StatusOK); err != nil {
		return "", err
	}
	token := ""
	for i := range times {
		_, header, err := ask(ctx, http.MethodPost, path+"/payment-attempts", nil,
			map[string]any{"cardToken": "tok_declined_stolen", "occurredAt": at(time.Duration(i+1) * 20 * time.Second)}, nil, http.StatusCreated)
		if err != nil {
			return "", err
		}
		token = header.Get(tokenHeader)
	}
	if token == "" {
		return "", fmt.Errorf("the shop's answers to payments have no token")
	}
	return token, nil
}
